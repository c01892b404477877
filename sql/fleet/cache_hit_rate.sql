-- cache_hit_rate: What each region's cache answers by itself.
-- grain: one row per reader region
-- key: reader_region
-- inputs: reads
-- hit_share is of requests that went through the cache; upstream_bytes were fetched from the layers' regions.
SELECT
    reader_region,
    sum(requests)::BIGINT AS requests,
    coalesce(sum(requests) FILTER (cache_status = 'hit'), 0)
    / nullif(sum(requests) FILTER (cache_status <> 'none'), 0) AS hit_share,
    sum(bytes)::BIGINT AS bytes,
    sum(upstream_bytes)::BIGINT AS upstream_bytes,
    coalesce(sum(requests) FILTER (cache_status = 'none'), 0)::BIGINT AS uncached_requests
FROM reads
GROUP BY reader_region
ORDER BY reader_region
