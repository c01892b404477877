-- receipts: What was done, action by action, predicted against actual.
-- grain: one row per finished action
-- key: action_id
-- inputs: layers, receipts
-- parameter disk_id VARCHAR = : only this disk; empty = all
-- actual_freed_bytes is null until the waiting_layers, which the action replaced and which are still stored, are gone.
SELECT
    finished_at,
    disk_id,
    outcome,
    reason,
    engine,
    layers_before,
    layers_after,
    predicted_read_bytes,
    actual_read_bytes,
    predicted_write_bytes,
    actual_write_bytes,
    predicted_freed_bytes,
    actual_freed_bytes,
    waiting_layers,
    predicted_seconds,
    actual_seconds,
    egress_usd,
    action_id
FROM finished
WHERE $disk_id = '' OR disk_id = $disk_id
ORDER BY finished_at DESC, action_id
