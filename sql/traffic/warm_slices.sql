-- warm_slices: The 2 MiB slices of other regions' layers that a region's cache needs for one disk, in warming order.
-- grain: one row per layer and slice
-- key: warm_order
-- inputs: heads, layers, extents, reads, boot_traces
-- parameter disk_id VARCHAR: the head
-- parameter region VARCHAR: the region that will read
-- parameter cached VARCHAR[] = : slices that are there already, each as layer_id:slice_no
-- A slice is wanted if it holds data that the head sees, or may hold tables: parts of the object, at least a cluster, that
-- no extent claims. Visibility is worked in units of 64 KiB, rounded so that nothing visible is left out.
-- Order: what opening reads (slice 0 and the L1 table), what the disk's last recorded start read, other tables, then data by
-- the layer's heat and place. wanted_bytes: the visible units in the slice (metadata: all of it).
WITH RECURSIVE links AS MATERIALIZED (
    SELECT layer_no, parent_no, layer_id, region, size_bytes, virtual_size, cluster_bits, l1_offset, l1_entries
    FROM layers
    WHERE status = 'ok'
),

chain AS MATERIALIZED (
    SELECT links.*, 0 AS position, links.virtual_size AS visible_size
    FROM heads
    JOIN links ON links.layer_no = heads.tip_no
    WHERE heads.disk_id = $disk_id
    UNION ALL
    SELECT links.*, chain.position + 1, least(chain.visible_size, links.virtual_size)
    FROM chain
    JOIN links ON links.layer_no = chain.parent_no
    WHERE chain.position < 5000  -- a cycle ends here
),

piece AS MATERIALIZED (
    SELECT
        chain.layer_no,
        chain.position,
        extents.kind,
        extents.host_offset,
        extents.host_length,
        extents.start,
        least(extents.start + extents.length, chain.visible_size) AS stop,
        chain.visible_size
    FROM extents
    JOIN chain USING (layer_no)
),

part AS (
    SELECT
        *,
        greatest(start - (block << 22), 0) AS low,
        least(stop - (block << 22), 4194304) AS high,
        CASE WHEN stop = visible_size THEN 65535 ELSE 0 END AS slack
    FROM (
        SELECT *, unnest(range(start >> 22, ((stop - 1) >> 22) + 1)) AS block
        FROM piece
        WHERE stop > start
    )
),

masked AS (
    SELECT
        *,
        (18446744073709551615::UBIGINT >> (64 - (((high + 65535) >> 16) - (low >> 16)))::UBIGINT) << (low >> 16)::UBIGINT
            AS touched,
        CASE
            WHEN least(high + slack, 4194304) >> 16 > (low + 65535) >> 16
                THEN (18446744073709551615::UBIGINT
                    >> (64 - ((least(high + slack, 4194304) >> 16) - ((low + 65535) >> 16)))::UBIGINT)
                    << ((low + 65535) >> 16)::UBIGINT
            ELSE 0::UBIGINT
        END AS covered
    FROM part
),

shown AS (
    SELECT *, touched & ~coalesce(
        bit_or(covered) OVER (PARTITION BY block ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0
    ) AS seen
    FROM masked
),

data_slice AS (
    SELECT
        layer_no,
        slice_no,
        greatest(slice_no * 2097152, host) - host + low AS slice_low,
        least((slice_no + 1) * 2097152, host + high - low) - host + low AS slice_high,
        kind,
        seen,
        host_length
    FROM (
        SELECT *, unnest(range(host >> 21, ((host + CASE WHEN kind = 3 THEN host_length ELSE high - low END - 1) >> 21) + 1))
            AS slice_no
        FROM (
            SELECT *, CASE WHEN kind = 3 THEN host_offset ELSE host_offset + (block << 22) + low - start END AS host
            FROM shown
            WHERE seen <> 0 AND kind IN (0, 3)
        )
    )
),

visible AS (
    SELECT
        layer_no,
        slice_no,
        sum(CASE
            WHEN kind = 3 THEN host_length
            ELSE 65536 * bit_count(seen & (
                (18446744073709551615::UBIGINT >> (64 - (((slice_high + 65535) >> 16) - (slice_low >> 16)))::UBIGINT)
                << (slice_low >> 16)::UBIGINT
            ))
        END) AS visible_bytes
    FROM data_slice
    GROUP BY layer_no, slice_no
    HAVING visible_bytes > 0
),

claimed AS (
    SELECT
        layer_no,
        slice_no,
        sum(least((slice_no + 1) * 2097152, host_offset + host_length) - greatest(slice_no * 2097152, host_offset)) AS bytes
    FROM (
        SELECT *, unnest(range(host_offset >> 21, ((host_offset + host_length - 1) >> 21) + 1)) AS slice_no
        FROM piece
        WHERE host_offset >= 0 AND host_length > 0
    )
    GROUP BY layer_no, slice_no
),

object_slice AS (
    SELECT
        layer_no,
        layer_id,
        region,
        position,
        slice_no,
        least(size_bytes - slice_no * 2097152, 2097152) AS slice_bytes,
        1::BIGINT << cluster_bits AS cluster_bytes,
        slice_no = 0 OR slice_no BETWEEN l1_offset >> 21 AND (l1_offset + l1_entries * 8 - 1) >> 21 AS opening
    FROM (SELECT *, unnest(range(0, (size_bytes + 2097151) >> 21)) AS slice_no FROM chain WHERE region <> $region)
),

last_start AS (
    SELECT layer_id, slice_no, min(position) AS boot_position
    FROM boot_traces
    WHERE disk_id = $disk_id
        AND started_at = (SELECT max(started_at) FROM boot_traces WHERE disk_id = $disk_id)
    GROUP BY layer_id, slice_no
),

heat AS (
    SELECT layer_id, sum(requests) AS requests
    FROM reads
    GROUP BY layer_id
),

wanted AS (
    SELECT
        object_slice.*,
        coalesce(visible.visible_bytes, 0) AS visible_bytes,
        object_slice.opening OR object_slice.slice_bytes - coalesce(claimed.bytes, 0) >= object_slice.cluster_bytes AS tables,
        last_start.boot_position,
        coalesce(heat.requests, 0) AS requests
    FROM object_slice
    LEFT JOIN visible USING (layer_no, slice_no)
    LEFT JOIN claimed USING (layer_no, slice_no)
    LEFT JOIN last_start USING (layer_id, slice_no)
    LEFT JOIN heat USING (layer_id)
)

SELECT
    row_number() OVER (ORDER BY NOT opening, boot_position NULLS LAST, NOT tables, requests DESC, position, slice_no)
        AS warm_order,
    layer_id,
    region AS layer_region,
    slice_no,
    slice_bytes,
    CASE WHEN tables THEN slice_bytes ELSE least(visible_bytes, slice_bytes) END::BIGINT AS wanted_bytes,
    CASE
        WHEN opening THEN 'opening'
        WHEN boot_position IS NOT NULL THEN 'boot'
        WHEN tables THEN 'tables'
        ELSE 'data'
    END AS reason,
    boot_position
FROM wanted
WHERE (visible_bytes > 0 OR tables) AND NOT list_contains($cached::VARCHAR[], layer_id || ':' || slice_no)
ORDER BY warm_order
