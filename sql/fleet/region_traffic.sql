-- region_traffic: Who reads from where: bytes, latency and money by pair of regions.
-- grain: one row per reader region and layer region that occur
-- key: reader_region, layer_region
-- inputs: reads
-- parameter prices JSON = {}: USD per GB by source region and reader region
-- Latency is read off the log2 histogram: the upper bound of the class in which the median (99th percentile) request lies.
-- egress_usd: what was fetched from the layers' region, at its price to the reader's region.
WITH price AS (
    SELECT from_json($prices, '"MAP(VARCHAR, MAP(VARCHAR, DOUBLE))"') AS usd_per_gb
),

pair AS (
    SELECT
        reader_region,
        layer_region,
        sum(requests)::BIGINT AS requests,
        sum(bytes)::BIGINT AS bytes,
        sum(upstream_bytes)::BIGINT AS upstream_bytes
    FROM reads
    GROUP BY reader_region, layer_region
),

class AS (
    SELECT reader_region, layer_region, place, sum(n) AS n
    FROM (
        SELECT reader_region, layer_region, unnest(latency_us) AS n, generate_subscripts(latency_us, 1) AS place
        FROM reads
    )
    GROUP BY reader_region, layer_region, place
),

running AS (
    SELECT
        reader_region,
        layer_region,
        place,
        sum(n) OVER (PARTITION BY reader_region, layer_region ORDER BY place) AS below,
        sum(n) OVER (PARTITION BY reader_region, layer_region) AS n
    FROM class
),

latency AS (
    SELECT
        reader_region,
        layer_region,
        power(2, min(place) FILTER (below >= 0.5 * n)) AS p50_us,
        power(2, min(place) FILTER (below >= 0.99 * n)) AS p99_us
    FROM running
    GROUP BY reader_region, layer_region
)

SELECT
    pair.*,
    latency.p50_us,
    latency.p99_us,
    CASE
        WHEN reader_region = layer_region THEN 0
        ELSE coalesce(price.usd_per_gb[layer_region][reader_region], 0) * upstream_bytes / 1e9
    END AS egress_usd
FROM pair
LEFT JOIN latency USING (reader_region, layer_region)
CROSS JOIN price
ORDER BY reader_region, layer_region
