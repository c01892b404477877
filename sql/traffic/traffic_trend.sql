-- traffic_trend: Bytes and money by pair of regions, day by day.
-- grain: one row per day, reader region and layer region that occur
-- key: day, reader_region, layer_region
-- inputs: reads
-- parameter prices JSON = {}: USD per GB by layer region and reader region
-- change_share: upstream bytes against the pair's day before.
WITH daily AS (
    SELECT
        hour::DATE AS day,
        reader_region,
        layer_region,
        sum(requests)::BIGINT AS requests,
        sum(bytes)::BIGINT AS bytes,
        sum(upstream_bytes)::BIGINT AS upstream_bytes,
        coalesce(sum(requests) FILTER (cache_status = 'miss'), 0)
        / nullif(sum(requests) FILTER (cache_status <> 'none'), 0) AS miss_share
    FROM reads
    GROUP BY hour::DATE, reader_region, layer_region
)

SELECT
    day,
    reader_region,
    layer_region,
    requests,
    bytes,
    upstream_bytes,
    miss_share,
    CASE
        WHEN reader_region = layer_region THEN 0
        ELSE coalesce(from_json($prices, '"MAP(VARCHAR, MAP(VARCHAR, DOUBLE))"')[layer_region][reader_region], 0)
            * upstream_bytes / 1e9
    END AS egress_usd,
    upstream_bytes / nullif(lag(upstream_bytes) OVER (PARTITION BY reader_region, layer_region ORDER BY day), 0) - 1
        AS change_share
FROM daily
ORDER BY day, reader_region, layer_region
