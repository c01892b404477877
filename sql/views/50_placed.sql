-- placed: every layer with its tree, and what is known of its bytes: what one disk's page is cut from.
-- grain: one row per layer
-- tree_no: number of the tree's root; -1 if the chain does not end (a cycle), or the manifest was not analysed.
-- unknown_bytes: what the layer holds, where nothing is known of its visibility.
-- (A large fleet's pages keep this view as a file in the order of tree_no: see tasks.analytics.placed.)
CREATE VIEW placed AS
SELECT
    layers.layer_no,
    layers.parent_no,
    coalesce(shadow.root_no, -1) AS tree_no,
    layers.layer_id,
    layers.region,
    layers.status,
    layers.reason,
    layers.size_bytes,
    shadow.visible_data_bytes,
    shadow.visible_zero_bytes,
    shadow.visible_compressed_bytes,
    shadow.shadowed_bytes,
    shadow.heads AS shared_by,
    CASE
        WHEN shadow.layer_no IS NULL THEN layers.data_bytes + layers.zero_bytes + layers.compressed_bytes
    END AS unknown_bytes,
    layers.last_modified
FROM layers
LEFT JOIN shadow USING (layer_no)
