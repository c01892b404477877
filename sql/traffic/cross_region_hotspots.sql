-- cross_region_hotspots: Which regions read which regions' layers: bytes, misses, latency and money.
-- grain: one row per reader region and layer region that occur
-- key: reader_region, layer_region
-- inputs: reads
-- parameter prices JSON = {}: USD per GB by layer region and reader region
-- parameter days INTEGER = 14: of the log, counted from its end
-- miss_share is of the requests that went through a cache. Money: what was fetched from the layers' region at its price.
-- Latency is read off the log2 histogram: the upper bound of the class in which the median (99th percentile) request lies.
WITH recent AS (
    SELECT *
    FROM reads
    WHERE hour > (SELECT max(hour) FROM reads) - to_days($days::INTEGER)
),

pair AS (
    SELECT
        reader_region,
        layer_region,
        sum(requests)::BIGINT AS requests,
        sum(bytes)::BIGINT AS bytes,
        sum(upstream_bytes)::BIGINT AS upstream_bytes,
        coalesce(sum(requests) FILTER (cache_status = 'miss'), 0)
        / nullif(sum(requests) FILTER (cache_status <> 'none'), 0) AS miss_share,
        count(DISTINCT layer_id) AS layers,
        count(DISTINCT disk_id) FILTER (disk_id <> '') AS disks
    FROM recent
    GROUP BY reader_region, layer_region
),

class AS (
    SELECT reader_region, layer_region, place, sum(n) AS n
    FROM (
        SELECT reader_region, layer_region, unnest(latency_us) AS n, generate_subscripts(latency_us, 1) AS place
        FROM recent
    )
    WHERE n > 0
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
        power(2, min(place) FILTER (below >= 0.5 * n)) / 1000 AS p50_ms,
        power(2, min(place) FILTER (below >= 0.99 * n)) / 1000 AS p99_ms
    FROM running
    GROUP BY reader_region, layer_region
)

SELECT
    pair.reader_region,
    pair.layer_region,
    pair.reader_region <> pair.layer_region AS remote,
    pair.bytes,
    pair.upstream_bytes,
    pair.requests,
    pair.miss_share,
    latency.p50_ms,
    latency.p99_ms,
    CASE
        WHEN pair.reader_region = pair.layer_region THEN 0
        ELSE coalesce(from_json($prices, '"MAP(VARCHAR, MAP(VARCHAR, DOUBLE))"')[pair.layer_region][pair.reader_region], 0)
            * pair.upstream_bytes / 1e9
    END AS egress_usd,
    pair.layers,
    pair.disks
FROM pair
LEFT JOIN latency USING (reader_region, layer_region)
ORDER BY egress_usd DESC, pair.upstream_bytes DESC, pair.reader_region, pair.layer_region
