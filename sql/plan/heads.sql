-- heads: Every head with the size of its chain: enough to skip most disks without their layers.
-- grain: one row per head
-- key: disk_id
-- inputs: heads, layers, steals
-- Status: ok, or what breaks the chain: refused (the record), dangling, cycle, missing_backing, refused_layer.
-- private_layers: layers from the tip down that no other head reaches. A child that no head reaches (replaced layers
-- in their grace period, a crashed upload) does not make a layer shared: layers never change, so it loses nothing.
-- shadowed_bytes: stored bytes of the private part that a layer above hides.
-- Method: one walk up marks live layers, one walk down from the roots carries all sums; cycles are never entered.
WITH RECURSIVE live AS (
    SELECT tip_no AS layer_no
    FROM heads
    WHERE tip_no IS NOT NULL
    UNION
    SELECT layers.parent_no
    FROM live
    JOIN layers USING (layer_no)
    WHERE layers.parent_no IS NOT NULL
),

fan_out AS (
    SELECT layers.parent_no AS layer_no, count(*) AS children
    FROM layers
    SEMI JOIN live USING (layer_no)
    WHERE layers.parent_no IS NOT NULL
    GROUP BY layers.parent_no
),

tips AS (
    SELECT tip_no AS layer_no, count(*) AS heads
    FROM heads
    WHERE tip_no IS NOT NULL
    GROUP BY tip_no
),

nodes AS (
    SELECT
        layers.layer_no,
        layers.parent_no,
        layers.region,
        coalesce(layers.size_bytes, 0) AS size_bytes,
        coalesce(layers.stored_bytes, 0) AS stored_bytes,
        CASE
            WHEN layers.status = 'missing' THEN 'missing_backing'
            WHEN layers.status <> 'ok' THEN 'refused_layer'
            WHEN layers.parent_no IS NULL AND layers.backing_layer_id IS NOT NULL THEN 'missing_backing'
        END AS trouble,
        CASE
            WHEN layers.status <> 'ok' THEN layers.layer_id || ': ' || coalesce(layers.reason, layers.status)
            WHEN layers.parent_no IS NULL AND layers.backing_layer_id IS NOT NULL
                THEN layers.layer_id || ' refers to ' || layers.backing_layer_id
        END AS trouble_detail,
        coalesce(fan_out.children, 0) + coalesce(tips.heads, 0) > 1 AS shared
    FROM layers
    SEMI JOIN live USING (layer_no)
    LEFT JOIN fan_out USING (layer_no)
    LEFT JOIN tips USING (layer_no)
),

owned AS (
    SELECT layer_no, parent_no, layer_no AS tip_no, stored_bytes
    FROM nodes
    SEMI JOIN tips USING (layer_no)
    WHERE NOT shared
    UNION
    SELECT nodes.layer_no, nodes.parent_no, owned.tip_no, nodes.stored_bytes
    FROM owned
    JOIN nodes ON nodes.layer_no = owned.parent_no
    WHERE NOT nodes.shared
),

private_part AS (
    SELECT tip_no, count(*) AS private_layers, sum(stored_bytes)::BIGINT AS stored_bytes
    FROM owned
    GROUP BY tip_no
),

hidden AS (
    SELECT
        upper_layer.tip_no,
        sum(steals.data_bytes + steals.compressed_stored_bytes)::BIGINT AS shadowed_bytes
    FROM steals
    JOIN owned AS upper_layer ON upper_layer.layer_no = steals.upper_no
    JOIN owned AS lower_layer ON lower_layer.layer_no = steals.lower_no AND lower_layer.tip_no = upper_layer.tip_no
    GROUP BY upper_layer.tip_no
),

region_numbers AS (
    SELECT region, row_number() OVER (ORDER BY region)::INTEGER AS region_index
    FROM (SELECT DISTINCT region FROM layers WHERE region IS NOT NULL)
),

walk AS (
    SELECT
        nodes.layer_no,
        1 AS chain_layers,
        list_transform(range(1, (SELECT count(*) + 1 FROM region_numbers)), lambda i: (i = region_index)::INTEGER)
            AS per_region,
        0::BIGINT AS parent_bytes,
        nodes.size_bytes,
        nodes.trouble,
        nodes.trouble_detail
    FROM nodes
    LEFT JOIN region_numbers USING (region)
    WHERE nodes.parent_no IS NULL
    UNION ALL
    SELECT
        nodes.layer_no,
        walk.chain_layers + 1,
        list_transform(walk.per_region, lambda n, i: n + (i = region_numbers.region_index)::INTEGER),
        walk.size_bytes,
        nodes.size_bytes,
        coalesce(walk.trouble, nodes.trouble),
        coalesce(walk.trouble_detail, nodes.trouble_detail)
    FROM walk
    JOIN nodes ON nodes.parent_no = walk.layer_no
    LEFT JOIN region_numbers ON region_numbers.region = nodes.region
)

SELECT
    heads.disk_id,
    heads.tip_layer_id,
    heads.tip_no,
    heads.kind,
    heads.state,
    heads.home_region,
    heads.generation,
    heads.etag,
    heads.virtual_size,
    CASE
        WHEN heads.status <> 'ok' THEN heads.status
        WHEN heads.tip_no IS NULL THEN 'dangling'
        WHEN walk.layer_no IS NULL THEN 'cycle'
        ELSE coalesce(walk.trouble, 'ok')
    END AS status,
    coalesce(heads.reason, walk.trouble_detail, '') AS detail,
    coalesce(walk.chain_layers, 0) AS chain_layers,
    coalesce(private_part.private_layers, 0) AS private_layers,
    coalesce(walk.parent_bytes, 0) AS parent_bytes,
    coalesce(walk.chain_layers - coalesce(walk.per_region[region_numbers.region_index], 0), 0) AS remote_layers,
    coalesce(private_part.stored_bytes, 0) AS stored_bytes,
    coalesce(hidden.shadowed_bytes, 0) AS shadowed_bytes
FROM heads
LEFT JOIN walk ON walk.layer_no = heads.tip_no
LEFT JOIN region_numbers ON region_numbers.region = heads.home_region
LEFT JOIN private_part ON private_part.tip_no = heads.tip_no
LEFT JOIN hidden ON hidden.tip_no = heads.tip_no
ORDER BY heads.disk_id
