-- fleet_totals: The whole fleet in one line: how much there is, what it costs, what is wrong with it.
-- grain: one row
-- key: disks
-- inputs: heads, layers, shadow_layers
-- parameter storage_prices JSON = {}: USD per GB and month, by region
-- Shadowed bytes are the guest's; shadowed_stored_bytes what the store would give back. Layers that were not analysed count
-- as visible. A layer is an orphan if no head's chain holds it.
WITH prices AS (
    SELECT from_json($storage_prices, '"MAP(VARCHAR, DOUBLE)"') AS usd_per_gb
),

disks AS (
    SELECT
        count(*) FILTER (kind = 'disk') AS disks,
        count(*) FILTER (kind = 'snapshot') AS snapshots,
        count(*) FILTER (state = 'running') AS running,
        count(*) FILTER (status <> 'ok' OR tip_no IS NULL) AS broken_heads
    FROM heads
),

stored AS (
    SELECT
        count(*) AS layers,
        count(*) FILTER (status = 'refused') AS refused_layers,
        count(*) FILTER (status = 'missing') AS missing_layers,
        coalesce(sum(size_bytes), 0)::BIGINT AS size_bytes,
        coalesce(sum(size_bytes * coalesce(prices.usd_per_gb[region], 0) / 1e9), 0) AS storage_usd
    FROM layers, prices
),

hidden AS (
    SELECT
        coalesce(sum(
            data_bytes + zero_bytes + compressed_bytes
            - visible_data_bytes - visible_zero_bytes - visible_compressed_bytes
        ) FILTER (live), 0)::BIGINT AS shadowed_bytes,
        coalesce(sum(
            data_bytes + compressed_stored_bytes - visible_data_bytes - visible_compressed_stored_bytes
        ) FILTER (live), 0)::BIGINT AS shadowed_stored_bytes,
        count(*) FILTER (NOT live) AS orphan_layers
    FROM shadow_layers
)

SELECT *
FROM disks, stored, hidden
