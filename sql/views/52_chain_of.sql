-- chain_of: The layers of a disk's chain. Position 0 is the base, or where a cycle closes.
-- grain: one row per layer
CREATE MACRO chain_of(disk) AS TABLE
WITH RECURSIVE tree AS MATERIALIZED (
    SELECT layer_no, parent_no FROM tree_of(disk)
),

up AS (
    SELECT tree.layer_no, tree.parent_no, [tree.layer_no] AS path
    FROM heads
    JOIN tree ON tree.layer_no = heads.tip_no
    WHERE heads.disk_id = disk
    UNION ALL
    SELECT tree.layer_no, tree.parent_no, list_append(up.path, tree.layer_no)
    FROM up
    JOIN tree ON tree.layer_no = up.parent_no
    WHERE NOT list_contains(up.path, tree.layer_no)
)

SELECT layer_no, max(len(path)) OVER () - len(path) AS position FROM up
