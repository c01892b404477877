-- tree_heads: Some disks' heads, and all other heads of the trees in which they stand.
-- grain: one row per head
-- key: disk_id
-- inputs: heads, shadow_layers
-- parameter disk_ids VARCHAR[]: the disks
SELECT *
FROM heads
WHERE
    disk_id IN (SELECT unnest($disk_ids))
    OR tip_no IN (
        SELECT layer_no
        FROM shadow_layers
        WHERE
            root_no IN (
                SELECT shadow_layers.root_no
                FROM heads
                JOIN shadow_layers ON shadow_layers.layer_no = heads.tip_no
                WHERE heads.disk_id IN (SELECT unnest($disk_ids))
            )
    )
