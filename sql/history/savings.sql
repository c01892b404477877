-- savings: What finished actions brought, predicted against actual, by engine.
-- grain: one row per engine
-- key: engine
-- inputs: layers, receipts
-- Only published actions count. Space becomes free when all layers that an action replaced are gone: freed_actions have
-- come so far, and actual_freed_bytes are theirs; waiting_freed_bytes is what was predicted of the others.
-- The ratios are actual over predicted (of the same actions): 1 is a perfect forecast.
SELECT
    engine,
    count(*) AS actions,
    count(DISTINCT disk_id) AS disks,
    sum(layers_before - layers_after)::BIGINT AS layers_removed,
    count(actual_freed_bytes) AS freed_actions,
    sum(predicted_freed_bytes)::BIGINT AS predicted_freed_bytes,
    coalesce(sum(predicted_freed_bytes) FILTER (actual_freed_bytes IS NULL), 0)::BIGINT AS waiting_freed_bytes,
    coalesce(sum(actual_freed_bytes), 0)::BIGINT AS actual_freed_bytes,
    sum(actual_freed_bytes) / nullif(sum(predicted_freed_bytes) FILTER (actual_freed_bytes IS NOT NULL), 0)
        AS freed_ratio,
    sum(predicted_read_bytes)::BIGINT AS predicted_read_bytes,
    sum(actual_read_bytes)::BIGINT AS actual_read_bytes,
    sum(actual_read_bytes) / nullif(sum(predicted_read_bytes), 0) AS read_ratio,
    sum(predicted_write_bytes)::BIGINT AS predicted_write_bytes,
    sum(actual_write_bytes)::BIGINT AS actual_write_bytes,
    sum(actual_write_bytes) / nullif(sum(predicted_write_bytes), 0) AS write_ratio,
    sum(predicted_seconds) AS predicted_seconds,
    sum(actual_seconds) AS actual_seconds,
    sum(actual_seconds) / nullif(sum(predicted_seconds), 0) AS seconds_ratio,
    sum(egress_usd) AS egress_usd
FROM finished
WHERE outcome = 'published'
GROUP BY engine
ORDER BY actual_freed_bytes DESC, engine
