-- layer_heat: How much each layer is read, and from how far away.
-- grain: one row per layer that was read
-- key: layer_id
-- inputs: layers, reads
-- parameter days INTEGER = 14: averages are over this many last days of the log
-- region and size are null for layers that are gone.
WITH recent AS (
    SELECT
        layer_id,
        sum(requests) / $days AS requests_per_day,
        sum(bytes) / $days AS bytes_per_day,
        coalesce(sum(upstream_bytes) FILTER (reader_region <> layer_region), 0) / $days AS remote_bytes_per_day,
        count(DISTINCT reader_region) AS reader_regions,
        count(DISTINCT disk_id) FILTER (disk_id <> '') AS disks,
        max(hour) AS last_hour
    FROM reads
    WHERE hour > (SELECT max(hour) FROM reads) - to_days($days::INTEGER)
    GROUP BY layer_id
)

SELECT recent.layer_id, layers.region, layers.size_bytes, recent.* EXCLUDE (layer_id)
FROM recent
LEFT JOIN layers USING (layer_id)
ORDER BY recent.bytes_per_day DESC, recent.layer_id
