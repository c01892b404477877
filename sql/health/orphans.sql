-- orphans: Layers that no head's chain holds.
-- grain: one row per layer
-- key: layer_id
-- inputs: heads, layers
-- parameter now TIMESTAMPTZ = now: the moment from which ages count
-- certain: false while some head record cannot be read: it may stand on any layer. children: layers that are built on this
-- one (orphans too). A list for people; what may be deleted is decided by `chainwright retire` with fresh listings.
WITH fan_out AS (
    SELECT parent_no AS layer_no, count(*) AS children
    FROM layers
    WHERE parent_no IS NOT NULL
    GROUP BY parent_no
),

unreadable AS (
    SELECT count(*) AS heads
    FROM heads
    WHERE status = 'refused'
)

SELECT
    layers.layer_id,
    layers.region,
    layers.status,
    layers.size_bytes,
    date_diff('second', layers.last_modified, $now) / 86400 AS age_days,
    coalesce(fan_out.children, 0) AS children,
    layers.backing_layer_id,
    unreadable.heads = 0 AS certain,
    layers.last_modified
FROM layers
ANTI JOIN live USING (layer_no)
LEFT JOIN fan_out USING (layer_no)
CROSS JOIN unreadable
WHERE layers.status <> 'missing'
ORDER BY layers.size_bytes DESC NULLS LAST, layers.layer_id
