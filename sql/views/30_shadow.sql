-- shadow: shadow_layers with sums over the kinds. Stored bytes count compressed clusters by their stored length.
-- grain: one row per layer whose chain ends
CREATE VIEW shadow AS
SELECT
    *,
    data_bytes + zero_bytes + compressed_bytes AS allocated_bytes,
    visible_data_bytes + visible_zero_bytes + visible_compressed_bytes AS visible_bytes,
    allocated_bytes - visible_bytes AS shadowed_bytes,
    data_bytes + compressed_stored_bytes AS allocated_stored_bytes,
    data_bytes + compressed_stored_bytes - visible_data_bytes - visible_compressed_stored_bytes
        AS shadowed_stored_bytes
FROM shadow_layers
