-- growth_forecast: When each disk's chain reaches the length limit if it goes on growing as it did.
-- grain: one row per disk whose chain ends
-- key: disk_id
-- inputs: heads, layers
-- parameter max_chain_length INTEGER = 8: the limit, in layers
-- parameter days INTEGER = 30: how far back growth is looked at
-- parameter now TIMESTAMPTZ = now: the moment to count from
-- parameter within_days DOUBLE = -1: only disks below the limit that reach it within so many days; negative = all
-- Growth is read off the ages of the private part's layers: those written in the last `days`, over that time, or over the
-- age of the private part where it is younger (but at least one day). A merged layer counts as one write.
-- days_left: 0 where the limit is reached already, null where nothing grew.
WITH RECURSIVE shared_by AS MATERIALIZED (
    FROM sharing
),

nodes AS (
    SELECT
        layers.layer_no,
        layers.parent_no,
        layers.last_modified,
        coalesce((layers.last_modified > $now - to_days($days::INTEGER))::INTEGER, 0) AS recent,
        CASE WHEN recent = 1 THEN coalesce(layers.size_bytes, 0) ELSE 0 END AS recent_bytes,
        coalesce(shared_by.children > 1 OR shared_by.heads > 0, false) AS shared
    FROM layers
    LEFT JOIN shared_by USING (layer_no)
),

walk AS (
    SELECT layer_no, 1 AS layers, shared, last_modified AS private_since, recent AS recent_layers, recent_bytes
    FROM nodes
    WHERE parent_no IS NULL
    UNION ALL
    SELECT
        nodes.layer_no,
        walk.layers + 1,
        nodes.shared,
        CASE WHEN walk.shared THEN nodes.last_modified ELSE walk.private_since END,
        CASE WHEN walk.shared THEN nodes.recent ELSE walk.recent_layers + nodes.recent END,
        CASE WHEN walk.shared THEN nodes.recent_bytes ELSE walk.recent_bytes + nodes.recent_bytes END
    FROM walk
    JOIN nodes ON nodes.parent_no = walk.layer_no
),

growing AS (
    SELECT
        heads.disk_id,
        heads.home_region,
        heads.state,
        walk.layers,
        walk.recent_layers,
        greatest(1, least($days, date_diff('second', walk.private_since, $now) / 86400)) AS span_days,
        walk.recent_layers / span_days AS layers_per_day,
        walk.recent_bytes / span_days AS bytes_per_day
    FROM heads
    JOIN walk ON walk.layer_no = heads.tip_no
    WHERE heads.kind = 'disk'
)

SELECT
    disk_id,
    home_region,
    state,
    layers,
    recent_layers,
    layers_per_day,
    bytes_per_day,
    CASE WHEN layers >= $max_chain_length THEN 0 ELSE ($max_chain_length - layers) / nullif(layers_per_day, 0) END
        AS days_left,
    CASE WHEN days_left < 36500 THEN $now + to_seconds(days_left * 86400) END AS reaches_limit_at
FROM growing
WHERE $within_days < 0 OR (layers < $max_chain_length AND days_left <= $within_days)
ORDER BY days_left NULLS LAST, layers DESC, disk_id
