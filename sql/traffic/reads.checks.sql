-- reads: Rules that the rows of reads keep.
-- grain: one row per rule
-- key: rule
-- inputs: reads
SELECT
    'counts are not negative' AS rule,
    'stop' AS severity,
    count(*) AS failures,
    any_value(layer_id) AS example
FROM reads
WHERE requests < 0 OR bytes < 0 OR upstream_bytes < 0
UNION ALL
SELECT 'cache_status is hit, miss or none', 'stop', count(*), any_value(cache_status)
FROM reads
WHERE cache_status IS NULL OR cache_status NOT IN ('hit', 'miss', 'none')
UNION ALL
SELECT 'every request has a latency', 'warn', count(*), any_value(layer_id)
FROM reads
WHERE list_sum(latency_us) <> requests
