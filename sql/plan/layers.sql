-- layers: The layers of the chains of the wanted disks, with what readers ask of them.
-- grain: one row per layer
-- key: layer_no
-- inputs: heads, layers, reads
-- parameter disk_ids VARCHAR[]: the disks
-- parameter days DOUBLE = 14: reads are averaged over this many last days of the log
-- remote_bytes_per_day: fetched from the layer's region by other regions.
WITH RECURSIVE wanted AS (
    SELECT tip_no AS layer_no
    FROM heads
    WHERE tip_no IS NOT NULL AND disk_id IN (SELECT unnest($disk_ids))
    UNION
    SELECT layers.parent_no
    FROM wanted
    JOIN layers USING (layer_no)
    WHERE layers.parent_no IS NOT NULL
),

span AS (
    SELECT max(hour) - to_seconds($days * 86400) AS since FROM reads
),

heat AS (
    SELECT
        reads.layer_id,
        sum(reads.requests) / $days AS requests_per_day,
        coalesce(sum(reads.upstream_bytes) FILTER (reads.reader_region <> reads.layer_region), 0) / $days
            AS remote_bytes_per_day
    FROM reads, span
    WHERE reads.hour > span.since
    GROUP BY reads.layer_id
)

SELECT
    layers.*,
    coalesce(heat.requests_per_day, 0)::DOUBLE AS requests_per_day,
    coalesce(heat.remote_bytes_per_day, 0)::DOUBLE AS remote_bytes_per_day
FROM layers
SEMI JOIN wanted USING (layer_no)
LEFT JOIN heat USING (layer_id)
ORDER BY layers.layer_no
