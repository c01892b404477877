-- merge_candidates: Runs of consecutive layers of one disk that could become one layer: what it costs and brings.
-- grain: one row per disk and candidate run
-- key: disk_id, top_position, bottom_position
-- inputs: heads, layers, reads, shadow_layers, steals
-- parameter window_layers INTEGER = 8: besides the whole private part, windows of that many layers, each half over the next
-- parameter keep_layers INTEGER = 0: layers left alone at the top
-- parameter days INTEGER = 14: heat is averaged over this many last days of the log
-- parameter local_request_ms DOUBLE = 10: one request to a store in the head's home region, milliseconds
-- parameter remote_request_ms DOUBLE = 80: one request to a store in another region, milliseconds
-- The private part: layers from the tip down that only this head holds; no fork, no other head. Positions count from the
-- tip (0). Chains with a broken link are left out.
-- read_bytes: what building the new layer must read: metadata of all, stored data that survives. write_bytes: survivors as
-- plain data (compressed clusters inflate). stored_by_region: what the run's layers hold where, as JSON.
-- frees_bytes: stored bytes hidden inside the run, and the tables of the layers that go.
-- saves_memory_bytes: tables of an open chain, all layers minus the largest. saves_first_read_ms: two requests a layer.
-- Method: each layer names the windows it is in, each steal the windows of its upper layer that reach its lower one.
WITH member AS (
    SELECT
        heads.disk_id,
        heads.home_region,
        heads.state,
        (shadow.run_position - $keep_layers)::INTEGER AS position,
        (count(*) OVER (PARTITION BY heads.disk_id))::INTEGER AS run_layers,
        layers.layer_no,
        layers.layer_id,
        layers.region,
        coalesce(layers.metadata_bytes, 0) AS metadata_bytes,
        shadow.allocated_stored_bytes,
        shadow.data_bytes + shadow.compressed_bytes AS plain_bytes,
        coalesce(layers.l1_entries, 0)::BIGINT * 8
        + least(coalesce(layers.l2_tables, 0)::BIGINT << coalesce(layers.cluster_bits, 0), 33554432) AS memory_bytes
    FROM heads
    JOIN shadow_layers AS tip ON tip.layer_no = heads.tip_no AND tip.heads = 1
    JOIN forest ON forest.layer_no = heads.tip_no AND forest.trouble IS NULL
    JOIN shadow ON shadow.run_top_no = heads.tip_no AND shadow.run_position >= $keep_layers
    JOIN layers ON layers.layer_no = shadow.layer_no
    WHERE heads.status = 'ok'
),

placed AS (
    SELECT
        layer_no,
        disk_id,
        position,
        unnest(list_distinct([
            {'top': 0, 'bottom': run_layers - 1},
            {'top': position // half * half, 'bottom': least(position // half * half + window_layers, run_layers) - 1},
            {'top': greatest(position // half - 1, 0) * half,
            'bottom': least(greatest(position // half - 1, 0) * half + window_layers, run_layers) - 1}
        ])) AS span,
        run_layers,
        half
    FROM (
        SELECT *, greatest($window_layers, 2)::INTEGER AS window_layers, greatest($window_layers // 2, 1)::INTEGER AS half
        FROM member
    )
),

window_of AS MATERIALIZED (
    SELECT layer_no, disk_id, position, span.top AS top_position, span.bottom AS bottom_position
    FROM placed
    WHERE position <= span.bottom AND span.bottom > span.top
        -- the last window is part of the one before it
        AND (span.top = 0 OR span.top + greatest($window_layers, 2) - half < run_layers)
),

hidden AS (
    SELECT
        upper_layer.disk_id,
        upper_layer.top_position,
        upper_layer.bottom_position,
        sum(steals.data_bytes + steals.compressed_stored_bytes)::BIGINT AS stored_bytes,
        sum(steals.data_bytes + steals.compressed_bytes)::BIGINT AS plain_bytes
    FROM steals
    JOIN member AS lower_layer ON lower_layer.layer_no = steals.lower_no
    JOIN window_of AS upper_layer
        ON upper_layer.layer_no = steals.upper_no AND upper_layer.disk_id = lower_layer.disk_id
        AND lower_layer.position <= upper_layer.bottom_position
    GROUP BY upper_layer.disk_id, upper_layer.top_position, upper_layer.bottom_position
),

heat AS (
    SELECT layer_id, sum(requests) / $days AS requests_per_day
    FROM reads
    WHERE hour > (SELECT max(hour) FROM reads) - to_days($days::INTEGER)
    GROUP BY layer_id
),

by_region AS (
    SELECT
        window_of.disk_id,
        window_of.top_position,
        window_of.bottom_position,
        member.region,
        any_value(member.home_region) AS home_region,
        any_value(member.state) AS state,
        arg_min(member.layer_id, member.position) AS top_layer_id,
        arg_max(member.layer_id, member.position) AS bottom_layer_id,
        min(member.position) AS first_position,
        max(member.position) AS last_position,
        count(*) AS layers,
        sum(member.metadata_bytes)::BIGINT AS metadata_bytes,
        max(member.metadata_bytes) AS largest_metadata_bytes,
        sum(member.allocated_stored_bytes)::BIGINT AS stored_bytes,
        sum(member.plain_bytes)::BIGINT AS plain_bytes,
        sum(member.memory_bytes)::BIGINT AS memory_bytes,
        max(member.memory_bytes) AS largest_memory_bytes,
        coalesce(sum(heat.requests_per_day), 0) AS requests_per_day
    FROM window_of
    JOIN member USING (layer_no)
    LEFT JOIN heat USING (layer_id)
    GROUP BY window_of.disk_id, window_of.top_position, window_of.bottom_position, member.region
)

SELECT
    by_region.disk_id,
    any_value(by_region.home_region) AS home_region,
    any_value(by_region.state) AS state,
    by_region.top_position + $keep_layers AS top_position,
    by_region.bottom_position + $keep_layers AS bottom_position,
    (sum(by_region.layers) - 1)::BIGINT AS layers_removed,
    (sum(by_region.metadata_bytes + by_region.stored_bytes) - coalesce(any_value(hidden.stored_bytes), 0))::BIGINT
        AS read_bytes,
    (sum(by_region.plain_bytes) - coalesce(any_value(hidden.plain_bytes), 0))::BIGINT AS write_bytes,
    '{' || string_agg(to_json(by_region.region)::VARCHAR || ': ' || (by_region.metadata_bytes + by_region.stored_bytes), ', '
        ORDER BY by_region.region) || '}' AS stored_by_region,
    (coalesce(any_value(hidden.stored_bytes), 0) + sum(by_region.metadata_bytes)
    - max(by_region.largest_metadata_bytes))::BIGINT AS frees_bytes,
    (sum(by_region.memory_bytes) - max(by_region.largest_memory_bytes))::BIGINT AS saves_memory_bytes,
    2 * (sum(by_region.layers * CASE WHEN by_region.region = by_region.home_region THEN $local_request_ms::DOUBLE
        ELSE $remote_request_ms::DOUBLE END) - $local_request_ms::DOUBLE) AS saves_first_read_ms,
    sum(by_region.requests_per_day) AS requests_per_day,
    arg_min(by_region.top_layer_id, by_region.first_position) AS top_layer_id,
    arg_max(by_region.bottom_layer_id, by_region.last_position) AS bottom_layer_id
FROM by_region
LEFT JOIN hidden USING (disk_id, top_position, bottom_position)
GROUP BY by_region.disk_id, by_region.top_position, by_region.bottom_position
ORDER BY frees_bytes DESC, by_region.disk_id, top_position, bottom_position
