-- warm_replaced: Which disks read layers that are to be retired, in which regions.
-- grain: one row per layer, disk and region
-- key: layer_id, disk_id, region
-- inputs: heads, reads
-- parameter layer_ids VARCHAR[]: the layers
-- parameter days INTEGER: of the log, counted from its end
-- A disk that is gone waits for nothing.
SELECT
    reads.layer_id,
    reads.disk_id,
    reads.reader_region AS region
FROM reads
SEMI JOIN heads ON heads.disk_id = reads.disk_id
WHERE reads.layer_id IN (SELECT unnest($layer_ids))
    AND reads.reader_region <> ''
    AND reads.hour > (SELECT max(hour) FROM reads) - to_days($days)
GROUP BY reads.layer_id, reads.disk_id, reads.reader_region
ORDER BY reads.disk_id, region, reads.layer_id
