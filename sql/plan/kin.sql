-- kin: A disk's chain, and for each layer of it that other heads share the branch of one of them: enough to see what is
-- private, at a cost that does not grow with the number of the others.
-- grain: one row per layer
-- key: layer_no
-- inputs: heads, layers, shadow_layers
-- parameter disk_id VARCHAR: the disk
-- Empty if the chain does not end, or the manifest was not analysed: then nothing less than all layers tells.
WITH RECURSIVE tree AS MATERIALIZED (
    SELECT layer_no, parent_no FROM tree_of($disk_id) WHERE tree_no >= 0
),

chain AS MATERIALIZED (
    SELECT chain.layer_no, chain.position
    FROM chain_of($disk_id) AS chain
    SEMI JOIN tree USING (layer_no)
),

beside AS MATERIALIZED (
    SELECT tree.layer_no, tree.parent_no
    FROM tree
    ANTI JOIN chain USING (layer_no)
),

down AS (
    SELECT layer_no, position
    FROM chain
    UNION ALL
    SELECT beside.layer_no, down.position
    FROM down
    JOIN beside ON beside.parent_no = down.layer_no
),

others AS (
    SELECT min(heads.tip_no) AS layer_no
    FROM down
    JOIN heads ON heads.tip_no = down.layer_no
    WHERE heads.disk_id <> $disk_id
    GROUP BY down.position
),

branches AS (
    SELECT layer_no
    FROM others
    UNION
    SELECT beside.parent_no
    FROM branches
    JOIN beside USING (layer_no)
)

SELECT layer_no FROM chain
UNION
SELECT layer_no FROM branches
