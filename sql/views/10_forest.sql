-- forest: every layer whose chain ends (at a base or at a broken link), with its place in its tree.
-- grain: one row per layer. Walks from the roots down: each layer is visited once, and cycles are never entered.
-- `trouble` is what is wrong with the chain from its base up to this layer: refused, missing, dangling, or null.
-- (Materialized: otherwise each step of the walk reads the files again.)
CREATE VIEW forest AS
WITH RECURSIVE links AS MATERIALIZED (
    SELECT
        layer_no,
        parent_no,
        CASE
            WHEN status <> 'ok' THEN status
            WHEN parent_no IS NULL AND backing_layer_id IS NOT NULL THEN 'dangling'
        END AS trouble
    FROM layers
),

walk AS (
    SELECT layer_no, layer_no AS root_no, 1 AS depth, trouble
    FROM links
    WHERE parent_no IS NULL
    UNION ALL
    SELECT links.layer_no, walk.root_no, walk.depth + 1, coalesce(walk.trouble, links.trouble)
    FROM walk
    JOIN links ON links.parent_no = walk.layer_no
)

SELECT * FROM walk
