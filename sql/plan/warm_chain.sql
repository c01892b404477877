-- warm_chain: A chain from a layer down to its base.
-- grain: one row per layer
-- key: position
-- inputs: layers
-- parameter layer_id VARCHAR: the top layer
WITH RECURSIVE walk AS (
    SELECT layer_no, parent_no, 0 AS position
    FROM layers
    WHERE layer_id = $layer_id
    UNION ALL
    SELECT layers.layer_no, layers.parent_no, walk.position + 1
    FROM walk
    JOIN layers ON layers.layer_no = walk.parent_no
    WHERE walk.position < 10000  -- a cycle ends here
)

SELECT
    walk.position,
    layers.layer_no,
    layers.layer_id,
    layers.region,
    layers.etag,
    layers.size_bytes,
    layers.status,
    layers.reason,
    layers.backing_layer_id,
    layers.parent_no
FROM walk
JOIN layers USING (layer_no)
ORDER BY walk.position
