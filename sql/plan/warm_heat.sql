-- warm_heat: How much each layer was read lately, by all guests of all regions.
-- grain: one row per layer
-- key: layer_id
-- inputs: reads
-- parameter layer_ids VARCHAR[]: the layers
-- parameter days INTEGER = 14: of the log, counted from its end
SELECT layer_id, sum(requests)::BIGINT AS requests
FROM reads
WHERE layer_id IN (SELECT unnest($layer_ids))
    AND hour > (SELECT max(hour) FROM reads) - to_days($days)
GROUP BY layer_id
ORDER BY requests DESC, layer_id
