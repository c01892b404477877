-- disk_chain: One disk's chain, layer by layer from base to tip: what each holds, what of it is visible, who shares it.
-- grain: one row per layer of the chain
-- key: position
-- inputs: heads, layers, shadow_layers
-- parameter disk_id VARCHAR: the head
-- Bytes are the guest's; size_bytes is the object's. visible_bytes, zero_bytes and compressed_bytes are
-- visible from at least one head (any, not only this one); shadowed_bytes from none; unknown_bytes were not analysed.
-- shared_by: heads whose chain holds the layer, this one included. Position 0 is the base, or where a cycle closes.
-- Method: walk up within the tree of the head's root, which the analysis knows, so the fleet's size does not matter.
WITH RECURSIVE tip AS (
    SELECT tip_no FROM heads WHERE disk_id = $disk_id
),

root AS (
    SELECT shadow_layers.root_no FROM shadow_layers JOIN tip ON tip.tip_no = shadow_layers.layer_no
),

links AS MATERIALIZED (
    SELECT layers.layer_no, layers.parent_no
    FROM layers
    JOIN shadow_layers USING (layer_no)
    WHERE shadow_layers.root_no = (SELECT root_no FROM root)
    UNION ALL
    SELECT layer_no, parent_no
    FROM layers
    WHERE (SELECT count(*) FROM root) = 0  -- a cycle, or a manifest that was not analysed
),

up AS (
    SELECT links.layer_no, links.parent_no, [links.layer_no] AS path
    FROM tip
    JOIN links ON links.layer_no = tip.tip_no
    UNION ALL
    SELECT links.layer_no, links.parent_no, list_append(up.path, links.layer_no)
    FROM up
    JOIN links ON links.layer_no = up.parent_no
    WHERE NOT list_contains(up.path, links.layer_no)
),

chain AS MATERIALIZED (
    SELECT layer_no, max(len(path)) OVER () - len(path) AS position FROM up
),

hidden AS MATERIALIZED (  -- only the chain's rows, so that the join below does not read the rest
    SELECT
        shadow.layer_no,
        shadow.visible_data_bytes AS visible_bytes,
        shadow.visible_zero_bytes AS zero_bytes,
        shadow.visible_compressed_bytes AS compressed_bytes,
        shadow.shadowed_bytes,
        shadow.heads AS shared_by
    FROM shadow
    JOIN chain USING (layer_no)
)

SELECT
    chain.position,
    layers.layer_id,
    layers.region,
    layers.status,
    layers.reason,
    layers.size_bytes,
    hidden.* EXCLUDE (layer_no),
    CASE
        WHEN hidden.layer_no IS NULL THEN layers.data_bytes + layers.zero_bytes + layers.compressed_bytes
    END AS unknown_bytes,
    layers.last_modified
FROM chain
JOIN layers USING (layer_no)
LEFT JOIN hidden USING (layer_no)
ORDER BY chain.position
