-- warm_targets: Which disks to warm where: guests waited for other regions, a merge replaced what they read, a start is due.
-- grain: one row per disk and region
-- key: disk_id, region
-- inputs: heads, layers, reads, boot_traces
-- parameter days INTEGER = 14: of the log, counted from its end
-- parameter horizon_hours INTEGER = 24: starts that are due within this time after the log's end
-- parameter min_miss_bytes BIGINT = 1: fetched from other regions for the disk's guests in that time
-- replaced: its guests read a layer there that no chain holds any more, and that is not deleted yet (it waits for this).
-- A start is due when the time since the last one comes near the mean time between the starts of the disk in the region.
WITH newest AS (
    SELECT greatest((SELECT max(hour) FROM reads), (SELECT max(started_at) FROM boot_traces)) AS moment
),

disk AS (
    SELECT disk_id, home_region
    FROM heads
    WHERE status = 'ok' AND tip_no IS NOT NULL AND kind = 'disk'
),

missed AS (
    SELECT
        reads.disk_id,
        reads.reader_region AS region,
        sum(reads.upstream_bytes)::BIGINT AS miss_bytes,
        sum(reads.requests)::BIGINT AS requests,
        max(reads.hour) AS last_read
    FROM reads, newest
    WHERE reads.hour > newest.moment - to_days($days)
        AND reads.reader_region <> reads.layer_region
        AND reads.reader_region <> ''
        AND reads.cache_status = 'miss'
    GROUP BY reads.disk_id, reads.reader_region
),

replaced AS (
    SELECT reads.disk_id, reads.reader_region AS region, max(reads.hour) AS last_read
    FROM reads
    CROSS JOIN newest
    JOIN layers USING (layer_id)
    ANTI JOIN live USING (layer_no)
    WHERE reads.hour > newest.moment - to_days($days) AND reads.reader_region <> ''
    GROUP BY reads.disk_id, reads.reader_region
),

start AS (
    SELECT disk_id, reader_region AS region, started_at
    FROM boot_traces, newest
    WHERE started_at > newest.moment - to_days($days)
    GROUP BY disk_id, reader_region, started_at
),

rhythm AS (
    SELECT
        disk_id,
        region,
        count(*) AS starts,
        max(started_at) AS last_start,
        CASE
            WHEN count(*) > 1
                THEN max(started_at) + to_microseconds(date_diff('microsecond', min(started_at), max(started_at)) // (count(*) - 1))
        END AS next_start
    FROM start
    GROUP BY disk_id, region
),

candidate AS (
    SELECT
        disk_id,
        region,
        replaced.last_read IS NOT NULL AS is_replaced,
        coalesce(missed.miss_bytes, 0) AS miss_bytes,
        coalesce(missed.requests, 0) AS missed_requests,
        greatest(missed.last_read, replaced.last_read, rhythm.last_start) AS last_read,
        coalesce(rhythm.starts, 0) AS starts,
        rhythm.next_start
    FROM missed
    FULL JOIN replaced USING (disk_id, region)
    FULL JOIN rhythm USING (disk_id, region)
)

SELECT
    candidate.disk_id,
    candidate.region,
    disk.home_region,
    CASE
        WHEN candidate.miss_bytes >= $min_miss_bytes THEN 'remote_misses'
        WHEN candidate.is_replaced THEN 'replaced'
        ELSE 'start_due'
    END AS reason,
    candidate.miss_bytes,
    candidate.missed_requests,
    candidate.starts,
    candidate.last_read,
    candidate.next_start
FROM candidate
JOIN disk USING (disk_id)
CROSS JOIN newest
WHERE candidate.miss_bytes >= $min_miss_bytes
    OR candidate.is_replaced
    OR candidate.next_start <= newest.moment + to_hours($horizon_hours)
ORDER BY candidate.miss_bytes DESC, candidate.starts DESC, candidate.disk_id, candidate.region
