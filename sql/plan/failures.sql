-- failures: Disks whose last finished action failed, or was refused by a worker: when, and why.
-- grain: one row per disk
-- key: disk_id
-- inputs: receipts
-- A lease of another action is no failure: it ends by itself.
SELECT
    disk_id,
    max(finished_at) AS failed_at,
    max_by(outcome || ': ' || coalesce(reason, ''), finished_at) AS failure
FROM receipts
GROUP BY disk_id
HAVING
    max_by(outcome, finished_at) IN ('failed', 'refused')
    AND NOT starts_with(max_by(coalesce(reason, ''), finished_at), 'leased')
ORDER BY disk_id
