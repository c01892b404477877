-- steals: The steal matrix in SQL alone: what tests hold the kernel against. Obvious, not fast.
-- grain: one row per pair of layers of which the upper hides bytes of the lower first
-- key: upper_no, lower_no
-- inputs: heads, layers, extents
-- Trees are cut at every boundary. On the chain of each live layer, a piece that it holds, or that lies behind its end, is
-- taken from the nearest layer below that holds the piece, unless a layer between them ends before it.
WITH RECURSIVE links AS MATERIALIZED (
    SELECT
        layers.layer_no,
        layers.parent_no,
        CASE WHEN status = 'ok' THEN virtual_size ELSE 1::BIGINT << 62 END AS size
    FROM layers
    SEMI JOIN forest USING (layer_no)
    SEMI JOIN live USING (layer_no)
),

held AS MATERIALIZED (
    SELECT
        forest.root_no,
        extents.layer_no,
        extents.kind,
        extents.start,
        least(extents.start + extents.length, links.size) AS stop
    FROM extents
    JOIN links USING (layer_no)
    JOIN forest USING (layer_no)
    WHERE extents.start < links.size AND links.size < 1::BIGINT << 62
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
    SELECT held.layer_no, held.kind, cut.place, cut.length
    FROM held
    JOIN cut ON cut.root_no = held.root_no AND cut.place >= held.start AND cut.place < held.stop
),

-- limit_size: the smallest size of the layers strictly between, the upper one not included
below AS (
    SELECT layer_no AS upper_no, size AS upper_size, parent_no AS lower_no, 1::BIGINT << 62 AS limit_size, 1 AS distance
    FROM links
    WHERE parent_no IS NOT NULL
    UNION ALL
    SELECT below.upper_no, below.upper_size, links.parent_no, least(below.limit_size, links.size), below.distance + 1
    FROM below
    JOIN links ON links.layer_no = below.lower_no
    WHERE links.parent_no IS NOT NULL
),

taken AS (
    SELECT
        below.upper_no,
        below.lower_no,
        lower_piece.kind,
        lower_piece.length,
        row_number() OVER (PARTITION BY below.upper_no, lower_piece.place ORDER BY below.distance) AS rank,
        lower_piece.place < below.limit_size AS shows
    FROM below
    JOIN piece AS lower_piece ON lower_piece.layer_no = below.lower_no
    LEFT JOIN piece AS upper_piece
        ON upper_piece.layer_no = below.upper_no AND upper_piece.place = lower_piece.place
    WHERE upper_piece.layer_no IS NOT NULL OR lower_piece.place >= below.upper_size
)

SELECT
    upper_no,
    lower_no,
    coalesce(sum(length) FILTER (kind = 0), 0)::BIGINT AS data_bytes,
    coalesce(sum(length) FILTER (kind IN (1, 2)), 0)::BIGINT AS zero_bytes,
    coalesce(sum(length) FILTER (kind = 3), 0)::BIGINT AS compressed_bytes
FROM taken
WHERE rank = 1 AND shows
GROUP BY upper_no, lower_no
ORDER BY upper_no, lower_no
