-- hot_layers: Layers whose reads cross regions most, by reader: bytes, misses and money.
-- grain: one row per layer and reader region that reads from elsewhere
-- key: layer_id, reader_region
-- inputs: reads
-- parameter prices JSON = {}: USD per GB by layer region and reader region
-- parameter days INTEGER = 14: of the log, counted from its end
WITH price AS (
    SELECT from_json($prices, '"MAP(VARCHAR, MAP(VARCHAR, DOUBLE))"') AS usd_per_gb
),

crossing AS (
    SELECT
        layer_id,
        reader_region,
        layer_region,
        sum(requests)::BIGINT AS requests,
        sum(bytes)::BIGINT AS bytes,
        sum(upstream_bytes)::BIGINT AS upstream_bytes,
        coalesce(sum(requests) FILTER (cache_status = 'miss'), 0)::BIGINT AS misses,
        max(hour) AS last_hour
    FROM reads
    WHERE reader_region <> layer_region AND layer_id <> ''
        AND hour > (SELECT max(hour) FROM reads) - to_days($days::INTEGER)
    GROUP BY layer_id, reader_region, layer_region
)

SELECT
    layer_id,
    reader_region,
    string_agg(layer_region, ', ' ORDER BY layer_region) AS layer_regions,
    sum(upstream_bytes)::BIGINT AS upstream_bytes,
    sum(bytes)::BIGINT AS bytes,
    sum(requests)::BIGINT AS requests,
    sum(misses) / nullif(sum(requests), 0) AS miss_share,
    sum(coalesce(price.usd_per_gb[layer_region][reader_region], 0) * upstream_bytes / 1e9) AS egress_usd,
    max(last_hour) AS last_hour
FROM crossing
CROSS JOIN price
GROUP BY layer_id, reader_region
ORDER BY egress_usd DESC, upstream_bytes DESC, layer_id, reader_region
