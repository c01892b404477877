-- heads: Rules that the rows of heads keep.
-- grain: one row per rule
-- key: rule
-- inputs: heads, layers
WITH named AS (
    SELECT disk_id FROM heads GROUP BY disk_id HAVING count(*) > 1
)

SELECT 'disk_id is unique' AS rule, 'stop' AS severity, count(*) AS failures, any_value(disk_id) AS example
FROM named
UNION ALL
SELECT 'tip_no names a layer', 'stop', count(*), any_value(heads.disk_id)
FROM heads
ANTI JOIN layers ON layers.layer_no = heads.tip_no
WHERE heads.tip_no IS NOT NULL
UNION ALL
SELECT 'tip_no is the layer that tip_layer_id names', 'stop', count(*), any_value(heads.disk_id)
FROM heads
JOIN layers ON layers.layer_no = heads.tip_no
WHERE layers.layer_id IS DISTINCT FROM heads.tip_layer_id
UNION ALL
SELECT 'a head that is ok has a tip', 'stop', count(*), any_value(disk_id)
FROM heads
WHERE status = 'ok' AND tip_no IS NULL
UNION ALL
SELECT 'every head can be read', 'warn', count(*), any_value(disk_id)
FROM heads
WHERE status = 'refused'
