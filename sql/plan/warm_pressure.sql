-- warm_pressure: What came into a region's cache by the day, newest first, and when the disk was last read there.
-- grain: one row per day
-- key: days_ago
-- inputs: reads, boot_traces
-- parameter region VARCHAR: the cache's region
-- parameter disk_id VARCHAR: the disk that is to be warmed
-- parameter days INTEGER = 60: of the log, counted from its end
WITH newest AS (
    SELECT max(hour) AS moment FROM reads WHERE reader_region = $region
),

used AS (
    SELECT max(moment) AS moment
    FROM (
        SELECT max(hour) AS moment FROM reads WHERE reader_region = $region AND disk_id = $disk_id
        UNION ALL
        SELECT max(started_at) FROM boot_traces WHERE reader_region = $region AND disk_id = $disk_id
    )
)

SELECT
    date_diff('hour', reads.hour, newest.moment) // 24 AS days_ago,
    sum(reads.upstream_bytes)::BIGINT AS fetched_bytes,
    any_value(date_diff('hour', used.moment, newest.moment) / 24) AS disk_days_ago
FROM reads, newest, used
WHERE reads.reader_region = $region AND reads.hour > newest.moment - to_days($days)
GROUP BY days_ago
ORDER BY days_ago
