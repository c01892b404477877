-- chain_length: How long, large and scattered each disk's chain is, and what opening it costs.
-- grain: one row per head
-- key: disk_id
-- inputs: heads, layers
-- parameter max_chain_length INTEGER = 8: layers beyond which a chain counts as too long
-- parameter local_request_ms DOUBLE = 10: one request to a store in the head's home region, milliseconds
-- parameter remote_request_ms DOUBLE = 80: one request to a store in another region, milliseconds
-- Status: ok, or what breaks the chain (refused, missing, dangling, cycle: then sizes are those of the part that ends,
-- null where there is none).
-- private_layers: layers from the tip down to the last fork or other head (0: the tip itself is shared). A fork is where a
-- layer has two children that heads reach: the part that the planner may merge.
-- memory_bytes: what an open chain keeps in QEMU: per layer its L1 table (8 bytes an entry) and the L2 tables that exist,
-- at most the default l2-cache-size of 32 MiB (QEMU, docs/qcow2-cache.txt); the refcount cache of read-only layers stays empty.
-- first_read_ms: before the first read of a cold chain can end, each layer costs two dependent requests: header with L1
-- at open, then the L2 table of the block.
-- Method: one walk from the roots down carries all sums, so each layer is visited once however many heads are above it.
WITH RECURSIVE region_numbers AS (
    SELECT region, row_number() OVER (ORDER BY region) AS region_index
    FROM (SELECT DISTINCT region FROM layers)
),

shared_by AS MATERIALIZED (
    FROM sharing
),

nodes AS (
    SELECT
        layers.layer_no,
        layers.parent_no,
        region_numbers.region_index,
        layers.size_bytes,
        coalesce(layers.l1_entries, 0)::BIGINT * 8
        + least(coalesce(layers.l2_tables, 0)::BIGINT << coalesce(layers.cluster_bits, 0), 33554432) AS memory_bytes,
        CASE
            WHEN layers.status <> 'ok' THEN layers.status
            WHEN layers.parent_no IS NULL AND layers.backing_layer_id IS NOT NULL THEN 'dangling'
        END AS trouble,
        coalesce(shared_by.children > 1 OR shared_by.heads > 0, false) AS shared
    FROM layers
    LEFT JOIN region_numbers ON region_numbers.region = layers.region
    LEFT JOIN shared_by USING (layer_no)
),

walk AS (
    SELECT
        layer_no,
        layer_no AS root_no,
        1 AS layers,
        1 AS private_layers,
        shared,
        coalesce(size_bytes, 0) AS stored_bytes,
        memory_bytes,
        trouble,
        list_transform(range(1, (SELECT count(*) + 1 FROM region_numbers)), lambda i: (i = region_index)::INTEGER) AS per_region
    FROM nodes
    WHERE parent_no IS NULL
    UNION ALL
    SELECT
        nodes.layer_no,
        walk.root_no,
        walk.layers + 1,
        CASE WHEN walk.shared THEN 1 ELSE walk.private_layers + 1 END,
        nodes.shared,
        walk.stored_bytes + coalesce(nodes.size_bytes, 0),
        walk.memory_bytes + nodes.memory_bytes,
        coalesce(walk.trouble, nodes.trouble),
        list_transform(walk.per_region, lambda n, i: n + (i = nodes.region_index)::INTEGER)
    FROM walk
    JOIN nodes ON nodes.parent_no = walk.layer_no
),

measured AS (
    SELECT
        heads.*,
        walk.* EXCLUDE (layer_no, root_no),
        walk.root_no,
        shared_by.children > 0 OR shared_by.heads > 1 AS tip_shared,
        coalesce(walk.per_region[region_numbers.region_index], 0) AS home_layers
    FROM heads
    LEFT JOIN walk ON walk.layer_no = heads.tip_no
    LEFT JOIN shared_by ON shared_by.layer_no = heads.tip_no
    LEFT JOIN region_numbers ON region_numbers.region = heads.home_region
)

SELECT
    disk_id,
    kind,
    home_region,
    state,
    CASE
        WHEN measured.status <> 'ok' THEN measured.status
        WHEN tip_no IS NULL THEN 'dangling'
        WHEN root_no IS NULL THEN 'cycle'
        ELSE coalesce(trouble, 'ok')
    END AS status,
    layers,
    coalesce(layers > $max_chain_length, false) AS too_long,
    CASE WHEN tip_shared THEN 0 ELSE private_layers END AS private_layers,
    measured.stored_bytes,
    len(list_filter(per_region, lambda n: n > 0)) AS regions,
    layers - home_layers AS remote_layers,
    measured.memory_bytes,
    2 * (home_layers * $local_request_ms + (layers - home_layers) * $remote_request_ms) AS first_read_ms,
    tip_layer_id,
    root.layer_id AS root_layer_id
FROM measured
LEFT JOIN (SELECT layer_no, layer_id FROM layers WHERE parent_no IS NULL) AS root ON root.layer_no = measured.root_no
ORDER BY measured.layers DESC NULLS LAST, measured.disk_id
