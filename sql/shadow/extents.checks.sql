-- extents: Rules that the rows of extents keep. Rows of layers that are gone are not looked at.
-- grain: one row per rule
-- key: rule
-- inputs: extents, layers
WITH summed AS (
    SELECT
        extents.layer_no,
        count(*) AS extents,
        count(*) FILTER (extents.start < 0 OR extents.length <= 0 OR extents.kind NOT BETWEEN 0 AND 3) AS odd,
        count(*) FILTER (extents.kind IN (0, 3) AND (extents.host_offset < 0 OR extents.host_length <= 0)) AS homeless,
        sum(extents.length) FILTER (extents.kind = 0) AS data_bytes,
        max(extents.start + extents.length) AS last_byte
    FROM extents
    GROUP BY extents.layer_no
),

checked AS (
    SELECT layers.*, summed.* EXCLUDE (layer_no, extents, data_bytes), coalesce(summed.extents, 0) AS found,
        coalesce(summed.data_bytes, 0) AS found_data_bytes
    FROM layers
    LEFT JOIN summed USING (layer_no)
    WHERE layers.status = 'ok'
)

SELECT 'as many rows as layers says' AS rule, 'stop' AS severity, count(*) AS failures, any_value(layer_id) AS example
FROM checked
WHERE found <> extents
UNION ALL
SELECT 'start, length and kind are possible', 'stop', count(*), any_value(layer_id)
FROM checked
WHERE odd > 0
UNION ALL
SELECT 'stored kinds have a place in the object', 'stop', count(*), any_value(layer_id)
FROM checked
WHERE homeless > 0
UNION ALL
SELECT 'data bytes are those that layers says', 'warn', count(*), any_value(layer_id)
FROM checked
WHERE found_data_bytes <> data_bytes
UNION ALL
SELECT 'nothing lies more than a cluster behind the end', 'warn', count(*), any_value(layer_id)
FROM checked
WHERE last_byte > virtual_size + (1::BIGINT << cluster_bits)
