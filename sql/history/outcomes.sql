-- outcomes: How actions ended, and why those that did not succeed did not.
-- grain: one row per outcome, reason and engine
-- key: outcome, reason, engine
-- inputs: layers, receipts
SELECT
    outcome,
    coalesce(reason, '') AS reason,
    engine,
    count(*) AS actions,
    sum(greatest(coalesce(layers_before, 0) - coalesce(layers_after, 0), 0))::BIGINT AS layers_removed,
    sum(coalesce(actual_read_bytes, 0) + coalesce(actual_write_bytes, 0))::BIGINT AS moved_bytes,
    sum(coalesce(actual_freed_bytes, 0))::BIGINT AS freed_bytes,
    sum(coalesce(actual_seconds, 0)) AS total_seconds,
    sum(coalesce(egress_usd, 0)) AS egress_usd,
    max(finished_at) AS last_at
FROM finished
GROUP BY outcome, coalesce(reason, ''), engine
ORDER BY actions DESC, outcome, reason, engine
