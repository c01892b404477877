-- shadowed_chains: Per disk: what its chain holds, what of it the disk sees, and what merging its private part would free.
-- grain: one row per head whose chain ends
-- key: disk_id
-- inputs: heads, layers, shadow_layers, steals
-- allocated and visible are guest bytes of the whole chain as this head sees it; hidden is the rest. shadowed_bytes is the
-- part of the hidden bytes that no other head sees either. merge_frees_bytes: stored bytes that go when the private part
-- (layers that only this head holds) becomes one layer: what its layers hide of each other.
-- A chain with a refused or missing layer is not merged: exact is false, and merge_frees_bytes 0.
-- Method: everything that a layer takes from below lies in its own chain, so visible is a sum along the chain of what
-- each layer adds minus what it takes.
WITH RECURSIVE taken AS (
    SELECT
        steals.upper_no AS layer_no,
        sum(steals.data_bytes + steals.zero_bytes + steals.compressed_bytes)::BIGINT AS taken_bytes,
        coalesce(sum(steals.data_bytes + steals.compressed_stored_bytes)
            FILTER (upper_layer.run_top_no = lower_layer.run_top_no), 0)::BIGINT AS taken_in_run_bytes
    FROM steals
    JOIN shadow_layers AS upper_layer ON upper_layer.layer_no = steals.upper_no
    JOIN shadow_layers AS lower_layer ON lower_layer.layer_no = steals.lower_no
    GROUP BY steals.upper_no
),

nodes AS (
    SELECT
        layers.layer_no,
        layers.parent_no,
        shadow.exact,
        shadow.allocated_bytes,
        shadow.shadowed_bytes,
        shadow.run_top_no,
        shadow.allocated_bytes - coalesce(taken.taken_bytes, 0) AS added_bytes
    FROM shadow
    JOIN layers USING (layer_no)
    LEFT JOIN taken USING (layer_no)
    WHERE shadow.live
),

walk AS (
    SELECT layer_no, 1 AS layers, exact, allocated_bytes, shadowed_bytes, added_bytes AS visible_bytes
    FROM nodes
    WHERE parent_no IS NULL
    UNION ALL
    SELECT
        nodes.layer_no,
        walk.layers + 1,
        walk.exact AND nodes.exact,
        walk.allocated_bytes + nodes.allocated_bytes,
        walk.shadowed_bytes + nodes.shadowed_bytes,
        walk.visible_bytes + nodes.added_bytes
    FROM walk
    JOIN nodes ON nodes.parent_no = walk.layer_no
),

private_part AS (
    SELECT
        nodes.run_top_no AS layer_no,
        count(*) AS layers,
        coalesce(sum(taken.taken_in_run_bytes), 0)::BIGINT AS frees_bytes
    FROM nodes
    LEFT JOIN taken USING (layer_no)
    GROUP BY nodes.run_top_no
)

SELECT
    heads.disk_id,
    heads.kind,
    heads.home_region,
    walk.layers,
    CASE WHEN tip.heads = 1 THEN private_part.layers ELSE 0 END AS private_layers,
    walk.exact,
    walk.allocated_bytes::BIGINT AS allocated_bytes,
    walk.visible_bytes::BIGINT AS visible_bytes,
    (walk.allocated_bytes - walk.visible_bytes)::BIGINT AS hidden_bytes,
    walk.shadowed_bytes::BIGINT AS shadowed_bytes,
    CASE WHEN tip.heads = 1 AND walk.exact THEN private_part.frees_bytes ELSE 0 END AS merge_frees_bytes
FROM heads
JOIN walk ON walk.layer_no = heads.tip_no
JOIN shadow_layers AS tip ON tip.layer_no = heads.tip_no
LEFT JOIN private_part ON private_part.layer_no = heads.tip_no
ORDER BY merge_frees_bytes DESC, heads.disk_id
