-- tree_of: The layers of the tree in which a disk's tip stands; all that stand in none, if it stands in none.
-- grain: one row per layer
CREATE MACRO tree_of(disk) AS TABLE
SELECT placed.*
FROM placed
JOIN (
    SELECT coalesce(max(shadow_layers.root_no), -1) AS tree_no
    FROM shadow_layers
    JOIN heads ON heads.tip_no = shadow_layers.layer_no
    WHERE heads.disk_id = disk
) USING (tree_no)
