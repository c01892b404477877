-- savings_by_day: What maintenance brought, day by day, predicted against actual.
-- grain: one row per day with a published action
-- key: day
-- inputs: receipts
SELECT
    finished_at::DATE AS day,
    count(*) AS actions,
    sum(layers_before - layers_after)::BIGINT AS layers_removed,
    sum(predicted_freed_bytes)::BIGINT AS predicted_freed_bytes,
    sum(actual_freed_bytes)::BIGINT AS actual_freed_bytes,
    sum(predicted_read_bytes + predicted_write_bytes)::BIGINT AS predicted_moved_bytes,
    sum(actual_read_bytes + actual_write_bytes)::BIGINT AS actual_moved_bytes,
    sum(predicted_seconds) AS predicted_seconds,
    sum(actual_seconds) AS actual_seconds,
    sum(egress_usd) AS egress_usd
FROM receipts
WHERE outcome = 'published'
GROUP BY day
ORDER BY day
