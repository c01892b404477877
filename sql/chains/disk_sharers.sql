-- disk_sharers: Which other heads share layers with a disk, and how many.
-- grain: one row per other head of the same tree
-- key: disk_id
-- inputs: heads, layers, shadow_layers
-- parameter disk_id VARCHAR: the head
-- shared_layers counts from the base up. Method: walk down from every layer of the chain without coming back to it, so each
-- layer of the tree is visited once; a head found below position p shares positions 0 to p.
WITH RECURSIVE chain AS MATERIALIZED (
    SELECT layer_no, position FROM chain_of($disk_id)
),

beside AS MATERIALIZED (
    SELECT tree.layer_no, tree.parent_no
    FROM tree_of($disk_id) AS tree
    ANTI JOIN chain USING (layer_no)
),

down AS (
    SELECT layer_no, position
    FROM chain
    UNION ALL
    SELECT beside.layer_no, down.position
    FROM down
    JOIN beside ON beside.parent_no = down.layer_no
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
