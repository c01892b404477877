-- savings_by_day: What maintenance brought, day by day, predicted against actual.
-- grain: one row per day with a published action
-- key: day
-- inputs: layers, receipts
-- The day is that of the action. Its space becomes free later, when all layers that it replaced are gone: freed_actions
-- have come so far, and actual_freed_bytes are theirs; waiting_freed_bytes is what was predicted of the others.
SELECT
    finished_at::DATE AS day,
    count(*) AS actions,
    sum(layers_before - layers_after)::BIGINT AS layers_removed,
    count(actual_freed_bytes) AS freed_actions,
    sum(predicted_freed_bytes)::BIGINT AS predicted_freed_bytes,
    coalesce(sum(predicted_freed_bytes) FILTER (actual_freed_bytes IS NULL), 0)::BIGINT AS waiting_freed_bytes,
    coalesce(sum(actual_freed_bytes), 0)::BIGINT AS actual_freed_bytes,
    sum(predicted_read_bytes + predicted_write_bytes)::BIGINT AS predicted_moved_bytes,
    sum(actual_read_bytes + actual_write_bytes)::BIGINT AS actual_moved_bytes,
    sum(predicted_seconds) AS predicted_seconds,
    sum(actual_seconds) AS actual_seconds,
    sum(egress_usd) AS egress_usd
FROM finished
WHERE outcome = 'published'
GROUP BY day
ORDER BY day
