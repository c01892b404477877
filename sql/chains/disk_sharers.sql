-- disk_sharers: Which other heads share layers with a disk, and how many.
-- grain: one row per other head of the same tree
-- key: disk_id
-- inputs: heads, layers
-- parameter disk_id VARCHAR: the head
-- shared_layers counts from the base up. Method: walk down from every layer of the chain without coming back to it, so each
-- layer of the tree is visited once; a head found below position p shares positions 0 to p. A cycle is cut after 5,000 steps.
WITH RECURSIVE links AS MATERIALIZED (
    SELECT layer_no, parent_no FROM layers
),

up AS (
    SELECT links.layer_no, links.parent_no, 0 AS height
    FROM heads
    JOIN links ON links.layer_no = heads.tip_no
    WHERE heads.disk_id = $disk_id
    UNION ALL
    SELECT links.layer_no, links.parent_no, up.height + 1
    FROM up
    JOIN links ON links.layer_no = up.parent_no
    WHERE up.height < 5000
),

chain AS MATERIALIZED (
    SELECT layer_no, max(max(height)) OVER () - max(height) AS position
    FROM up
    GROUP BY layer_no
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
