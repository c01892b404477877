-- broken_chains: What breaks chains, and who depends on it.
-- grain: one row per cause: a layer that is refused, missing or in a cycle, a link to nowhere, a head without a layer
-- key: cause, name
-- inputs: heads, layers
-- Causes: refused (the reader does not trust the layer), missing (referred to, but not in any bucket), dangling (its backing
-- layer is not known), cycle (the layer is its own ancestor), head_dangling, head_refused.
-- layers_above and heads count what needs the cause; disks names up to five of those heads.
-- Method: a cycle's members are where every walk from a layer without a root ends up; 2^20 steps by doubling.
WITH RECURSIVE links AS MATERIALIZED (
    SELECT layer_no, parent_no FROM layers
),

unrooted AS MATERIALIZED (
    SELECT links.layer_no, links.parent_no
    FROM links
    ANTI JOIN forest USING (layer_no)
),

jump (layer_no, ancestor_no, step) USING KEY (layer_no) AS (
    SELECT layer_no, parent_no, 0 FROM unrooted
    UNION
    SELECT here.layer_no, there.ancestor_no, here.step + 1
    FROM jump AS here
    JOIN recurring.jump AS there ON there.layer_no = here.ancestor_no
    WHERE here.step < 20
),

cause AS (
    SELECT layer_no, status AS cause, reason, detail
    FROM layers
    WHERE status <> 'ok'
    UNION ALL
    SELECT layer_no, 'dangling', 'backing_not_found', 'backing layer ' || backing_layer_id
    FROM layers
    WHERE status = 'ok' AND parent_no IS NULL AND backing_layer_id IS NOT NULL
    UNION ALL
    SELECT DISTINCT jump.ancestor_no, 'cycle', 'backing_cycle', 'backing layer ' || layers.backing_layer_id
    FROM jump
    JOIN layers ON layers.layer_no = jump.ancestor_no
),

above AS (
    SELECT DISTINCT layer_no AS cause_no, layer_no
    FROM cause
    UNION
    SELECT above.cause_no, links.layer_no
    FROM above
    JOIN links ON links.parent_no = above.layer_no
),

dependent AS (
    SELECT
        above.cause_no AS layer_no,
        count(DISTINCT above.layer_no) - 1 AS layers_above,
        count(heads.disk_id) AS heads,
        array_to_string(list(heads.disk_id ORDER BY heads.disk_id) FILTER (heads.disk_id IS NOT NULL)[:5], ', ') AS disks
    FROM above
    LEFT JOIN heads ON heads.tip_no = above.layer_no
    GROUP BY above.cause_no
)

SELECT
    cause.cause,
    layers.layer_id AS name,
    layers.region,
    cause.reason,
    cause.detail,
    dependent.heads,
    dependent.layers_above,
    dependent.disks
FROM cause
JOIN layers USING (layer_no)
JOIN dependent USING (layer_no)
UNION ALL
SELECT
    CASE WHEN status = 'refused' THEN 'head_refused' ELSE 'head_dangling' END,
    disk_id,
    home_region,
    coalesce(reason, 'tip_missing'),
    'tip ' || tip_layer_id,
    1,
    0,
    disk_id
FROM heads
WHERE status = 'refused' OR tip_no IS NULL
ORDER BY heads DESC, cause, name
