-- disk_chain: One disk's chain, layer by layer from base to tip: what each holds, what of it is visible, who shares it.
-- grain: one row per layer of the chain
-- key: position
-- inputs: heads, layers, shadow_layers
-- parameter disk_id VARCHAR: the head
-- Bytes are the guest's; stored_bytes and size_bytes are the object's. visible_bytes, zero_bytes and compressed_bytes are
-- visible from at least one head (any, not only this one); shadowed_bytes from none; unknown_bytes were not analysed.
-- shared_by: heads whose chain holds the layer, this one included. Position 0 is the base; a cycle is cut after 5,000 steps.
WITH RECURSIVE links AS MATERIALIZED (
    SELECT layer_no, parent_no FROM layers
),

up AS (
    SELECT links.layer_no, links.parent_no, 0 AS height
    FROM heads
    JOIN links ON links.layer_no = heads.tip_no
    WHERE heads.disk_id = $disk_id
    UNION ALL
    SELECT links.layer_no, links.parent_no, up.height + 1
    FROM up
    JOIN links ON links.layer_no = up.parent_no
    WHERE up.height < 5000
),

chain AS MATERIALIZED (
    SELECT layer_no, max(max(height)) OVER () - max(height) AS position
    FROM up
    GROUP BY layer_no
)

SELECT
    chain.position,
    layers.layer_id,
    layers.region,
    layers.status,
    layers.reason,
    layers.size_bytes,
    layers.stored_bytes,
    layers.virtual_size,
    layers.cluster_bits,
    shadow.visible_data_bytes AS visible_bytes,
    shadow.visible_zero_bytes AS zero_bytes,
    shadow.visible_compressed_bytes AS compressed_bytes,
    shadow.shadowed_bytes,
    CASE
        WHEN shadow.layer_no IS NULL THEN layers.data_bytes + layers.zero_bytes + layers.compressed_bytes
    END AS unknown_bytes,
    shadow.heads AS shared_by,
    layers.last_modified,
    layers.first_seen
FROM chain
JOIN layers USING (layer_no)
LEFT JOIN shadow USING (layer_no)
ORDER BY chain.position
