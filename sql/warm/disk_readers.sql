-- disk_readers: The regions whose guests read a disk lately.
-- grain: one row per region
-- key: region
-- inputs: reads
-- parameter disk_id VARCHAR: the disk
-- parameter days INTEGER = 14: of the log, counted from its end
SELECT
    reader_region AS region,
    sum(requests)::BIGINT AS requests,
    sum(bytes)::BIGINT AS bytes,
    sum(upstream_bytes)::BIGINT AS upstream_bytes,
    max(hour) AS last_read
FROM reads
WHERE disk_id = $disk_id
    AND reader_region <> ''
    AND hour > (SELECT max(hour) FROM reads) - to_days($days)
GROUP BY reader_region
ORDER BY bytes DESC, region
