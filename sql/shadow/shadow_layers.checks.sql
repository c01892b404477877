-- shadow_layers: Rules that the shadow analysis keeps.
-- grain: one row per rule
-- key: rule
-- inputs: layers, shadow_layers, steals
WITH live_tops AS (
    SELECT shadow.layer_no, shadow.allocated_bytes, shadow.visible_bytes
    FROM shadow
    JOIN heads ON heads.tip_no = shadow.layer_no
),

taken AS (
    SELECT
        lower_no AS layer_no,
        max(data_bytes + zero_bytes + compressed_bytes) AS most_bytes
    FROM steals
    GROUP BY lower_no
)

SELECT
    'visible bytes are not more than allocated' AS rule,
    'stop' AS severity,
    count(*) AS failures,
    any_value(layer_no)::VARCHAR AS example
FROM shadow
WHERE visible_data_bytes NOT BETWEEN 0 AND data_bytes OR visible_zero_bytes NOT BETWEEN 0 AND zero_bytes
    OR visible_compressed_bytes NOT BETWEEN 0 AND compressed_bytes
    OR visible_compressed_stored_bytes NOT BETWEEN 0 AND compressed_stored_bytes
UNION ALL
SELECT 'a head sees all of its tip', 'stop', count(*), any_value(layer_no)::VARCHAR
FROM live_tops
WHERE visible_bytes <> allocated_bytes
UNION ALL
SELECT 'layers that no head holds show nothing', 'stop', count(*), any_value(layer_no)::VARCHAR
FROM shadow
WHERE NOT live AND visible_bytes <> 0
UNION ALL
SELECT 'no layer takes more than there is', 'stop', count(*), any_value(layer_no)::VARCHAR
FROM shadow
JOIN taken USING (layer_no)
WHERE taken.most_bytes > shadow.allocated_bytes
UNION ALL
SELECT 'data bytes are those that layers says', 'stop', count(*), any_value(layers.layer_id)
FROM shadow_layers
JOIN layers USING (layer_no)
WHERE layers.status = 'ok' AND layers.data_bytes <> shadow_layers.data_bytes
