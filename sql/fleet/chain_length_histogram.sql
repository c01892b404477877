-- chain_length_histogram: How many disks and snapshots have a chain of each length.
-- grain: one row per length that occurs
-- key: layers
-- inputs: heads, layers
-- parameter max_chain_length INTEGER = 8: layers beyond which a chain counts as too long
-- Cyclic chains are left out: they have no length.
SELECT *, layers > $max_chain_length AS too_long
FROM (
    SELECT
        forest.depth AS layers,
        count(*) FILTER (heads.kind = 'disk') AS disks,
        count(*) FILTER (heads.kind = 'snapshot') AS snapshots
    FROM heads
    JOIN forest ON forest.layer_no = heads.tip_no
    GROUP BY forest.depth
)
ORDER BY layers
