-- shadowed_data: Bytes that layers hold and that no head can see: overwritten above on the way to every head.
-- grain: one row per layer with a chain that ends
-- key: layer_id
-- inputs: layers, shadow_layers, steals
-- Guest bytes, but for the stored columns, which count a compressed cluster by its stored length. Zero clusters hide what
-- is below like data does. visible_bytes: from at least one head; shadowed_bytes: from none (all of an orphan's).
-- visible_per_head_bytes: what a head whose chain holds the layer sees of it, on average over those heads: allocated minus
-- what each layer above takes, weighted with the heads above that one.
-- exact: false where a refused or missing layer above may hide more. Method: tasks/analytics/shadow.
WITH taken AS (
    SELECT
        steals.lower_no AS layer_no,
        sum((steals.data_bytes + steals.zero_bytes + steals.compressed_bytes)::DOUBLE * upper_layer.heads) AS head_bytes
    FROM steals
    JOIN shadow_layers AS upper_layer ON upper_layer.layer_no = steals.upper_no
    GROUP BY steals.lower_no
)

SELECT
    layers.layer_id,
    layers.region,
    shadow.live,
    shadow.exact,
    shadow.heads,
    shadow.depth,
    shadow.allocated_bytes,
    shadow.visible_bytes,
    shadow.shadowed_bytes,
    CASE
        WHEN shadow.heads > 0 THEN round(shadow.allocated_bytes - coalesce(taken.head_bytes, 0) / shadow.heads)::BIGINT
    END AS visible_per_head_bytes,
    shadow.shadowed_bytes / nullif(shadow.allocated_bytes, 0) AS shadowed_share,
    shadow.shadowed_stored_bytes,
    shadow.data_bytes - shadow.visible_data_bytes AS shadowed_data_bytes,
    shadow.zero_bytes - shadow.visible_zero_bytes AS shadowed_zero_bytes,
    shadow.compressed_bytes - shadow.visible_compressed_bytes AS shadowed_compressed_bytes,
    layers.size_bytes
FROM shadow
JOIN layers USING (layer_no)
LEFT JOIN taken USING (layer_no)
ORDER BY shadow.shadowed_stored_bytes DESC, layers.layer_id
