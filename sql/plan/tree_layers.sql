-- tree_layers: All layers of the trees in which some disks' tips stand.
-- grain: one row per layer
-- key: layer_no
-- inputs: heads, layers, shadow_layers
-- parameter disk_ids VARCHAR[]: the disks
-- Forks, other heads and all that a chain shares lie in its own tree: whatever is asked of one disk is answered by it.
SELECT layers.*
FROM layers
JOIN shadow_layers USING (layer_no)
WHERE
    shadow_layers.root_no IN (
        SELECT shadow_layers.root_no
        FROM heads
        JOIN shadow_layers ON shadow_layers.layer_no = heads.tip_no
        WHERE heads.disk_id IN (SELECT unnest($disk_ids))
    )
