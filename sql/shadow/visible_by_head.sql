-- visible_by_head: What one disk sees of each layer of its chain, byte for byte.
-- grain: one row per layer of the disk's chain
-- key: position
-- inputs: heads, layers, shadow_layers, steals
-- parameter disk_id VARCHAR: the head
-- Position 0 is the base. Guest bytes, but for visible_stored_bytes. Layers of a chain that never ends have no row.
WITH RECURSIVE links AS MATERIALIZED (
    SELECT layer_no, parent_no FROM layers
),

up AS (
    SELECT links.layer_no, links.parent_no, shadow_layers.depth
    FROM heads
    JOIN links ON links.layer_no = heads.tip_no
    JOIN shadow_layers ON shadow_layers.layer_no = heads.tip_no
    WHERE heads.disk_id = $disk_id
    UNION ALL
    SELECT links.layer_no, links.parent_no, up.depth - 1
    FROM up
    JOIN links ON links.layer_no = up.parent_no
),

taken AS (
    SELECT
        steals.lower_no AS layer_no,
        sum(steals.data_bytes)::BIGINT AS data_bytes,
        sum(steals.zero_bytes)::BIGINT AS zero_bytes,
        sum(steals.compressed_bytes)::BIGINT AS compressed_bytes,
        sum(steals.compressed_stored_bytes)::BIGINT AS compressed_stored_bytes
    FROM steals
    JOIN up AS upper_layer ON upper_layer.layer_no = steals.upper_no
    JOIN up AS lower_layer ON lower_layer.layer_no = steals.lower_no
    GROUP BY steals.lower_no
)

SELECT
    up.depth - 1 AS position,
    layers.layer_id,
    layers.region,
    layers.status,
    shadow.allocated_bytes,
    shadow.data_bytes - coalesce(taken.data_bytes, 0) AS visible_data_bytes,
    shadow.zero_bytes - coalesce(taken.zero_bytes, 0) AS visible_zero_bytes,
    shadow.compressed_bytes - coalesce(taken.compressed_bytes, 0) AS visible_compressed_bytes,
    shadow.data_bytes - coalesce(taken.data_bytes, 0)
    + shadow.compressed_stored_bytes - coalesce(taken.compressed_stored_bytes, 0) AS visible_stored_bytes
FROM up
JOIN layers USING (layer_no)
JOIN shadow USING (layer_no)
LEFT JOIN taken USING (layer_no)
ORDER BY position
