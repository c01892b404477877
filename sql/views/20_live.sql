-- live: layers that some head's chain holds. Visits each layer once, and ends on cycles.
-- grain: one row per layer
CREATE VIEW live AS
WITH RECURSIVE links AS MATERIALIZED (
    SELECT layer_no, parent_no FROM layers WHERE parent_no IS NOT NULL
),

held AS (
    SELECT tip_no AS layer_no
    FROM heads
    WHERE tip_no IS NOT NULL
    UNION
    SELECT links.parent_no
    FROM held
    JOIN links USING (layer_no)
)

SELECT layer_no FROM held
