-- sharing: where chains part or end: live children of a layer, and heads that stand on it. A child that no head reaches
-- (replaced layers in their grace period, a crashed upload) is none: layers never change, so it loses nothing by a merge.
-- grain: one row per layer that has any
CREATE VIEW sharing AS
SELECT layer_no, sum(children)::BIGINT AS children, sum(heads)::BIGINT AS heads
FROM (
    SELECT parent_no AS layer_no, 1 AS children, 0 AS heads
    FROM layers
    SEMI JOIN live USING (layer_no)
    WHERE parent_no IS NOT NULL
    UNION ALL
    SELECT tip_no, 0, 1
    FROM heads
    WHERE tip_no IS NOT NULL
)
GROUP BY layer_no
