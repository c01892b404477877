-- extents: The extents of the layers of chosen runs, for an exact prediction.
-- grain: one row per extent
-- key: layer_no, start
-- inputs: extents
-- parameter layer_nos INTEGER[]: the layers
SELECT extents.*
FROM extents
WHERE extents.layer_no IN (SELECT unnest($layer_nos))
ORDER BY extents.layer_no, extents.start
