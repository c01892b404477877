-- chain_length_histogram: How many disks and snapshots have a chain of each length.
-- grain: one row per length that occurs
-- key: layers
-- inputs: heads, layers
-- parameter max_chain_length INTEGER = 8: layers beyond which a chain counts as too long
-- Chains that do not end at a base (dangling, cyclic) are left out: they have no length.
WITH RECURSIVE walk AS (
    SELECT layer_no, 1 AS layers
    FROM layers
    WHERE parent_no IS NULL
    UNION ALL
    SELECT layers.layer_no, walk.layers + 1
    FROM walk
    JOIN layers ON layers.parent_no = walk.layer_no
)

SELECT
    walk.layers,
    count(*) FILTER (heads.kind = 'disk') AS disks,
    count(*) FILTER (heads.kind = 'snapshot') AS snapshots,
    walk.layers > $max_chain_length AS too_long
FROM walk
JOIN heads ON heads.tip_no = walk.layer_no
GROUP BY walk.layers
ORDER BY walk.layers
