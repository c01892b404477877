-- shadow_layers: The shadow analysis in SQL alone: what tests hold the kernel against. Obvious, not fast.
-- grain: one row per layer whose chain ends
-- key: layer_no
-- inputs: heads, layers, extents
-- Every tree is cut at every boundary that occurs in it. For each head and piece, the nearest layer of its chain that holds
-- the piece is the one that shows it, unless a layer above it ends before the piece.
WITH RECURSIVE links AS MATERIALIZED (
    SELECT
        layers.layer_no,
        layers.parent_no,
        CASE WHEN status = 'ok' THEN virtual_size ELSE 1::BIGINT << 62 END AS size
    FROM layers
),

held AS MATERIALIZED (
    SELECT
        forest.root_no,
        extents.layer_no,
        extents.kind,
        extents.host_length,
        extents.start,
        least(extents.start + extents.length, layers.virtual_size) AS stop,
        row_number() OVER () AS extent_no
    FROM extents
    JOIN layers ON layers.layer_no = extents.layer_no AND layers.status = 'ok'
    JOIN forest ON forest.layer_no = extents.layer_no
    WHERE extents.start < layers.virtual_size
),

cut AS (
    SELECT root_no, place, lead(place) OVER (PARTITION BY root_no ORDER BY place) - place AS length
    FROM (
        SELECT root_no, start AS place FROM held
        UNION
        SELECT root_no, stop FROM held
        UNION
        SELECT forest.root_no, links.size FROM links JOIN forest USING (layer_no) WHERE links.size < 1::BIGINT << 62
    )
),

piece AS MATERIALIZED (
    SELECT held.root_no, held.layer_no, held.extent_no, held.kind, cut.place, cut.length
    FROM held
    JOIN cut ON cut.root_no = held.root_no AND cut.place >= held.start AND cut.place < held.stop
),

chain AS (
    SELECT DISTINCT links.layer_no AS head_no, links.layer_no, links.parent_no, 0 AS distance, links.size AS limit_size
    FROM heads
    JOIN links ON links.layer_no = heads.tip_no
    SEMI JOIN forest ON forest.layer_no = heads.tip_no
    UNION ALL
    SELECT chain.head_no, links.layer_no, links.parent_no, chain.distance + 1, least(chain.limit_size, links.size)
    FROM chain
    JOIN links ON links.layer_no = chain.parent_no
),

shown AS (
    SELECT DISTINCT extent_no, layer_no, kind, place, length
    FROM (
        SELECT piece.*, row_number() OVER (PARTITION BY chain.head_no, piece.place ORDER BY chain.distance) AS rank
        FROM chain
        JOIN piece ON piece.layer_no = chain.layer_no AND piece.place < chain.limit_size
    )
    WHERE rank = 1
),

visible AS (
    SELECT
        layer_no,
        sum(length) FILTER (kind = 0) AS data_bytes,
        sum(length) FILTER (kind IN (1, 2)) AS zero_bytes,
        sum(length) FILTER (kind = 3) AS compressed_bytes
    FROM shown
    GROUP BY layer_no
),

visible_stored AS (
    SELECT held.layer_no, sum(held.host_length) AS bytes
    FROM held
    SEMI JOIN shown ON shown.extent_no = held.extent_no
    WHERE held.kind = 3
    GROUP BY held.layer_no
),

allocated AS (
    SELECT
        layer_no,
        sum(stop - start) FILTER (kind = 0) AS data_bytes,
        sum(stop - start) FILTER (kind IN (1, 2)) AS zero_bytes,
        sum(stop - start) FILTER (kind = 3) AS compressed_bytes,
        sum(host_length) FILTER (kind = 3) AS stored_bytes
    FROM held
    GROUP BY layer_no
)

SELECT
    forest.layer_no,
    live.layer_no IS NOT NULL AS live,
    coalesce(allocated.data_bytes, 0)::BIGINT AS data_bytes,
    coalesce(allocated.zero_bytes, 0)::BIGINT AS zero_bytes,
    coalesce(allocated.compressed_bytes, 0)::BIGINT AS compressed_bytes,
    coalesce(allocated.stored_bytes, 0)::BIGINT AS compressed_stored_bytes,
    coalesce(visible.data_bytes, 0)::BIGINT AS visible_data_bytes,
    coalesce(visible.zero_bytes, 0)::BIGINT AS visible_zero_bytes,
    coalesce(visible.compressed_bytes, 0)::BIGINT AS visible_compressed_bytes,
    coalesce(visible_stored.bytes, 0)::BIGINT AS visible_compressed_stored_bytes
FROM forest
LEFT JOIN live USING (layer_no)
LEFT JOIN allocated USING (layer_no)
LEFT JOIN visible USING (layer_no)
LEFT JOIN visible_stored USING (layer_no)
ORDER BY forest.layer_no
