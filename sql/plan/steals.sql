-- steals: What the layers of the wanted private parts hide of each other.
-- grain: one row per pair of layers of which the upper hides bytes of the lower first
-- key: upper_no, lower_no
-- inputs: steals
-- parameter layer_nos INTEGER[]: the layers of the private parts
-- hidden_bytes: stored bytes of the lower layer, so that they can be set against its stored_bytes.
WITH wanted AS (
    SELECT unnest($layer_nos) AS layer_no
)

SELECT
    steals.upper_no,
    steals.lower_no,
    steals.data_bytes + steals.compressed_stored_bytes AS hidden_bytes
FROM steals
SEMI JOIN wanted AS upper_layer ON upper_layer.layer_no = steals.upper_no
SEMI JOIN wanted AS lower_layer ON lower_layer.layer_no = steals.lower_no
WHERE steals.data_bytes + steals.compressed_stored_bytes > 0
ORDER BY steals.upper_no, steals.lower_no
