-- size_anomalies: Layers whose sizes do not fit together: hazards for merging, waste, or signs of something wrong.
-- grain: one row per layer and kind of anomaly
-- key: kind, layer_id
-- inputs: heads, layers
-- parameter waste_ratio DOUBLE = 1.5: an object this many times larger than its content is bloated
-- parameter waste_bytes BIGINT = 67108864: and by at least that much
-- Kinds: shrunk (smaller than its backing layer, which shows zeros behind its end: hazard 1), cluster_size (other than its
-- backing layer's: hazard 8), unaligned (the size ends inside a 64 KiB unit), bloated (the object is larger than its
-- content), head_size (the head's size is not its tip's), empty (a layer that holds nothing).
-- value and expected are bytes.
WITH anomaly AS (
    SELECT 'shrunk' AS kind, child.layer_no, child.virtual_size AS value, parent.virtual_size AS expected
    FROM layers AS child
    JOIN layers AS parent ON parent.layer_no = child.parent_no
    WHERE child.status = 'ok' AND parent.status = 'ok' AND child.virtual_size < parent.virtual_size
    UNION ALL
    SELECT 'cluster_size', child.layer_no, 1::BIGINT << child.cluster_bits, 1::BIGINT << parent.cluster_bits
    FROM layers AS child
    JOIN layers AS parent ON parent.layer_no = child.parent_no
    WHERE child.status = 'ok' AND parent.status = 'ok' AND child.cluster_bits <> parent.cluster_bits
    UNION ALL
    SELECT 'unaligned', layer_no, virtual_size, (virtual_size + 65535) // 65536 * 65536
    FROM layers
    WHERE status = 'ok' AND virtual_size % 65536 <> 0
    UNION ALL
    SELECT 'bloated', layer_no, size_bytes, stored_bytes + metadata_bytes
    FROM layers
    WHERE status = 'ok' AND size_bytes > (stored_bytes + metadata_bytes) * $waste_ratio
        AND size_bytes - stored_bytes - metadata_bytes >= $waste_bytes
    UNION ALL
    SELECT DISTINCT 'head_size', layers.layer_no, heads.virtual_size, layers.virtual_size
    FROM heads
    JOIN layers ON layers.layer_no = heads.tip_no
    WHERE layers.status = 'ok' AND heads.virtual_size > 0 AND heads.virtual_size <> layers.virtual_size
    UNION ALL
    SELECT 'empty', layer_no, size_bytes, 0
    FROM layers
    WHERE status = 'ok' AND extents = 0
)

SELECT anomaly.kind, layers.layer_id, layers.region, anomaly.value, anomaly.expected, layers.size_bytes
FROM anomaly
JOIN layers USING (layer_no)
ORDER BY anomaly.kind, abs(anomaly.value - anomaly.expected) DESC, layers.layer_id
