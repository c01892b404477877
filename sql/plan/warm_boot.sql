-- warm_boot: What the last starts of a disk read first, in their order.
-- grain: one row per slice
-- key: layer_id, slice_no
-- inputs: boot_traces
-- parameter disk_id VARCHAR: the disk
-- parameter starts INTEGER = 3: how many of the last starts count, in whichever region
WITH recent AS (
    SELECT started_at
    FROM boot_traces
    WHERE disk_id = $disk_id
    GROUP BY started_at
    ORDER BY started_at DESC
    LIMIT $starts
)

SELECT layer_id, slice_no, min(position) AS position
FROM boot_traces
WHERE disk_id = $disk_id AND started_at IN (SELECT started_at FROM recent)
GROUP BY layer_id, slice_no
ORDER BY min(position), layer_id, slice_no
