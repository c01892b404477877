-- forest: every layer whose chain ends (at a base or at a broken link), with its place in its tree.
-- grain: one row per layer. Walks from the roots down: each layer is visited once, and cycles are never entered.
-- `trouble` is what is wrong with the chain from its base up to this layer: refused, missing, dangling, or null.
CREATE VIEW forest AS
WITH RECURSIVE walk AS (
    SELECT
        layer_no,
        layer_no AS root_no,
        1 AS depth,
        CASE WHEN status <> 'ok' THEN status WHEN backing_layer_id IS NOT NULL THEN 'dangling' END AS trouble
    FROM layers
    WHERE parent_no IS NULL
    UNION ALL
    SELECT
        child.layer_no,
        walk.root_no,
        walk.depth + 1,
        coalesce(walk.trouble, nullif(child.status, 'ok'))
    FROM walk
    JOIN layers AS child ON child.parent_no = walk.layer_no
)
SELECT * FROM walk
