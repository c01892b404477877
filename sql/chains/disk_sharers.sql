-- disk_sharers: Which other heads share layers with a disk, and how many.
-- grain: one row per other head of the same tree
-- key: disk_id
-- inputs: heads, layers, shadow_layers
-- parameter disk_id VARCHAR: the head
-- shared_layers counts from the base up. Method: walk down from every layer of the chain without coming back to it, so each
-- layer of the tree is visited once; a head found below position p shares positions 0 to p.
WITH RECURSIVE tip AS (
    SELECT tip_no FROM heads WHERE disk_id = $disk_id
),

root AS (
    SELECT shadow_layers.root_no FROM shadow_layers JOIN tip ON tip.tip_no = shadow_layers.layer_no
),

links AS MATERIALIZED (
    SELECT layers.layer_no, layers.parent_no
    FROM layers
    JOIN shadow_layers USING (layer_no)
    WHERE shadow_layers.root_no = (SELECT root_no FROM root)
    UNION ALL
    SELECT layer_no, parent_no
    FROM layers
    WHERE (SELECT count(*) FROM root) = 0  -- a cycle, or a manifest that was not analysed
),

up AS (
    SELECT links.layer_no, links.parent_no, [links.layer_no] AS path
    FROM tip
    JOIN links ON links.layer_no = tip.tip_no
    UNION ALL
    SELECT links.layer_no, links.parent_no, list_append(up.path, links.layer_no)
    FROM up
    JOIN links ON links.layer_no = up.parent_no
    WHERE NOT list_contains(up.path, links.layer_no)
),

chain AS MATERIALIZED (
    SELECT layer_no, max(len(path)) OVER () - len(path) AS position FROM up
),

down AS (
    SELECT layer_no, position
    FROM chain
    UNION ALL
    SELECT links.layer_no, down.position
    FROM down
    JOIN links ON links.parent_no = down.layer_no
    WHERE links.layer_no NOT IN (SELECT layer_no FROM chain)
)

SELECT
    heads.disk_id,
    heads.kind,
    heads.state,
    heads.home_region,
    down.position + 1 AS shared_layers
FROM down
JOIN heads ON heads.tip_no = down.layer_no
WHERE heads.disk_id <> $disk_id
ORDER BY shared_layers DESC, heads.disk_id
