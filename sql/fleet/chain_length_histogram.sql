-- chain_length_histogram: How many disks and snapshots have a chain of each length.
-- grain: one row per length that occurs
-- key: layers
-- inputs: heads, layers
-- parameter max_chain_length INTEGER = 8: layers beyond which a chain counts as too long
-- Chains that do not end at a base (dangling, cyclic) are left out: they have no length.
WITH RECURSIVE links AS MATERIALIZED (
    SELECT layer_no, parent_no FROM layers
),

walk AS (
    SELECT layer_no, 1 AS layers
    FROM links
    WHERE parent_no IS NULL
    UNION ALL
    SELECT links.layer_no, walk.layers + 1
    FROM walk
    JOIN links ON links.parent_no = walk.layer_no
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
