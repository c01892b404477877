-- sharing: where chains part or end: live children of a layer, and heads that stand on it. A child that no head reaches
-- (replaced layers in their grace period, a crashed upload) is none: layers never change, so it loses nothing by a merge.
-- grain: one row per layer with several children, or with a head on it
CREATE VIEW sharing AS
WITH ends AS MATERIALIZED (
    SELECT tip_no AS layer_no, count(*) AS heads
    FROM heads
    WHERE tip_no IS NOT NULL
    GROUP BY tip_no
),

parts AS MATERIALIZED (
    SELECT layer_no FROM ends
    UNION
    SELECT parent_no FROM layers WHERE parent_no IS NOT NULL GROUP BY parent_no HAVING count(*) > 1
),

branches AS (
    SELECT layers.parent_no AS layer_no, count(*) AS children
    FROM layers
    SEMI JOIN parts ON parts.layer_no = layers.parent_no
    SEMI JOIN live ON live.layer_no = layers.layer_no
    GROUP BY layers.parent_no
)

SELECT layer_no, coalesce(branches.children, 0) AS children, coalesce(ends.heads, 0) AS heads
FROM branches
FULL JOIN ends USING (layer_no)
