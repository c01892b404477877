-- layers: Rules that the rows of layers keep.
-- grain: one row per rule
-- key: rule
-- inputs: layers
WITH numbered AS (
    SELECT layer_no FROM layers GROUP BY layer_no HAVING count(*) > 1
),

identified AS (
    SELECT layer_id FROM layers GROUP BY layer_id HAVING count(*) > 1
)

SELECT 'layer_no is unique' AS rule, 'stop' AS severity, count(*) AS failures, any_value(layer_no)::VARCHAR AS example
FROM numbered
UNION ALL
SELECT 'layer_id is unique', 'stop', count(*), any_value(layer_id)
FROM identified
UNION ALL
SELECT 'status is ok, refused or missing', 'stop', count(*), any_value(layer_id)
FROM layers
WHERE status IS NULL OR status NOT IN ('ok', 'refused', 'missing')
UNION ALL
SELECT 'parent_no names a layer', 'stop', count(*), any_value(layers.layer_id)
FROM layers
ANTI JOIN layers AS parent ON parent.layer_no = layers.parent_no
WHERE layers.parent_no IS NOT NULL
UNION ALL
SELECT 'parent_no is the layer that backing_layer_id names', 'stop', count(*), any_value(layers.layer_id)
FROM layers
JOIN layers AS parent ON parent.layer_no = layers.parent_no
WHERE parent.layer_id IS DISTINCT FROM layers.backing_layer_id
UNION ALL
SELECT 'layers that are ok have sizes and counts', 'stop', count(*), any_value(layer_id)
FROM layers
WHERE status = 'ok' AND (
    virtual_size IS NULL OR virtual_size < 0 OR cluster_bits NOT BETWEEN 9 AND 21 OR extents IS NULL OR extents < 0
    OR size_bytes IS NULL OR size_bytes < 0
)
UNION ALL
SELECT 'refused layers say why', 'warn', count(*), any_value(layer_id)
FROM layers
WHERE status = 'refused' AND coalesce(reason, '') = ''
UNION ALL
SELECT 'an object is not smaller than what it stores', 'warn', count(*), any_value(layer_id)
FROM layers
WHERE status = 'ok' AND size_bytes < stored_bytes
