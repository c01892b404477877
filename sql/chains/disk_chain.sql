-- disk_chain: One disk's chain, layer by layer from base to tip: what each holds, what of it is visible, who shares it.
-- grain: one row per layer of the chain
-- key: position
-- inputs: heads, layers, shadow_layers
-- parameter disk_id VARCHAR: the head
-- Bytes are the guest's; size_bytes is the object's. visible_bytes, zero_bytes and compressed_bytes are
-- visible from at least one head (any, not only this one); shadowed_bytes from none; unknown_bytes were not analysed.
-- shared_by: heads whose chain holds the layer, this one included. Position 0 is the base, or where a cycle closes.
-- Method: walk up within the tree of the head's root, which the analysis knows, so the fleet's size does not matter.
SELECT
    chain.position,
    tree.layer_id,
    tree.region,
    tree.status,
    tree.reason,
    tree.size_bytes,
    tree.visible_data_bytes AS visible_bytes,
    tree.visible_zero_bytes AS zero_bytes,
    tree.visible_compressed_bytes AS compressed_bytes,
    tree.shadowed_bytes,
    tree.shared_by,
    tree.unknown_bytes,
    tree.last_modified
FROM chain_of($disk_id) AS chain
JOIN tree_of($disk_id) AS tree USING (layer_no)
ORDER BY chain.position
