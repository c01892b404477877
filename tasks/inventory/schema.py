"""Arrow schemas of the manifest datasets. SQL, the planner and the UI rest on these columns: add, never rename."""

import pyarrow as pa

# One row per object under layers/ of any region, and per vanished layer that something still refers to.
LAYERS = pa.schema(
    [
        ("layer_no", pa.int32()),  # dense surrogate key, given once, never reused: joins with extents
        ("layer_id", pa.string()),
        ("region", pa.string()),
        ("key", pa.string()),
        ("etag", pa.string()),
        ("size_bytes", pa.int64()),
        ("last_modified", pa.timestamp("us", "UTC")),
        ("status", pa.string()),  # ok | refused | missing (referred to, but not there)
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("version", pa.int8()),
        ("cluster_bits", pa.int8()),
        ("virtual_size", pa.int64()),
        ("incompatible_features", pa.uint64()),
        ("compatible_features", pa.uint64()),
        ("autoclear_features", pa.uint64()),
        ("extended_l2", pa.bool_()),
        ("compression_type", pa.string()),
        ("refcount_bits", pa.int16()),
        ("l1_entries", pa.int32()),
        ("l1_offset", pa.int64()),
        ("l2_tables", pa.int32()),
        ("metadata_bytes", pa.int64()),
        ("bitmaps", pa.int32()),
        ("snapshots", pa.int32()),
        ("backing_layer_id", pa.string()),  # as the header says; null for a base
        ("backing_format", pa.string()),
        ("parent_no", pa.int32()),  # layer_no of the backing layer; null: none, or dangling
        ("extents", pa.int32()),
        ("data_bytes", pa.int64()),  # guest bytes of plain data
        ("zero_bytes", pa.int64()),  # guest bytes that read as zero by an entry of this layer
        ("compressed_bytes", pa.int64()),  # guest bytes stored compressed
        ("stored_bytes", pa.int64()),  # host bytes of data and compressed clusters
        ("first_seen", pa.timestamp("us", "UTC")),
    ]
)

# One row per maximal run of one kind; sorted by (layer_no, start). Bytes throughout. Unallocated ranges have no row.
EXTENTS = pa.schema(
    [
        ("layer_no", pa.int32()),
        ("start", pa.int64()),  # guest offset
        ("length", pa.int64()),  # guest bytes
        ("kind", pa.int8()),  # tasks.chain.layer.ExtentKind
        ("host_offset", pa.int64()),  # in the object; -1 for plain zero
        ("host_length", pa.int64()),  # in the object; 0 for plain zero; exact stored length for compressed
    ]
)

HEADS = pa.schema(
    [
        ("disk_id", pa.string()),
        ("tip_layer_id", pa.string()),
        ("tip_no", pa.int32()),  # null: the head points nowhere
        ("kind", pa.string()),  # disk | snapshot
        ("home_region", pa.string()),
        ("state", pa.string()),  # idle | running
        ("generation", pa.int64()),
        ("action_id", pa.string()),
        ("virtual_size", pa.int64()),
        ("etag", pa.string()),
        ("updated_at", pa.timestamp("us", "UTC")),
        ("status", pa.string()),  # ok | dangling | refused (unreadable record)
        ("reason", pa.string()),
    ]
)

# Roll-up of the regional caches' access logs: one row per hour x disk x layer x reader region x cache status.
READS = pa.schema(
    [
        ("hour", pa.timestamp("us", "UTC")),
        ("disk_id", pa.string()),  # "" where the reader did not say
        ("layer_id", pa.string()),
        ("reader_region", pa.string()),
        ("layer_region", pa.string()),
        ("cache_status", pa.string()),  # hit | miss | none (read past the cache)
        ("requests", pa.int64()),
        ("bytes", pa.int64()),  # sent to readers
        ("upstream_bytes", pa.int64()),  # fetched from the layer's region
        ("latency_us", pa.list_(pa.int32())),  # histogram: element i counts requests of [2^i, 2^(i+1)) microseconds
    ]
)

# The ordered slices that a start read in its first minutes.
BOOT_TRACES = pa.schema(
    [
        ("disk_id", pa.string()),
        ("reader_region", pa.string()),
        ("started_at", pa.timestamp("us", "UTC")),
        ("position", pa.int32()),  # order of first touch: milliseconds since the start; one slice may come twice
        ("layer_id", pa.string()),
        ("slice_no", pa.int32()),  # index of the 2 MiB slice in the object
    ]
)

# Receipts of finished actions, flattened.
RECEIPTS = pa.schema(
    [
        ("action_id", pa.string()),
        ("disk_id", pa.string()),
        ("engine", pa.string()),
        ("outcome", pa.string()),  # published | superseded | lost | refused | failed
        ("reason", pa.string()),
        ("finished_at", pa.timestamp("us", "UTC")),
        ("layers_before", pa.int32()),
        ("layers_after", pa.int32()),
        ("predicted_read_bytes", pa.int64()),
        ("actual_read_bytes", pa.int64()),
        ("predicted_write_bytes", pa.int64()),
        ("actual_write_bytes", pa.int64()),
        ("predicted_freed_bytes", pa.int64()),
        ("replaced_layer_ids", pa.list_(pa.string())),  # by an action that published; their space is freed later
        ("replaced_bytes", pa.int64()),
        ("new_bytes", pa.int64()),  # of the layers that it wrote instead; null in receipts that do not say
        ("predicted_seconds", pa.float64()),
        ("actual_seconds", pa.float64()),
        ("egress_usd", pa.float64()),
    ]
)

DATASETS = {
    "layers": LAYERS,
    "extents": EXTENTS,
    "heads": HEADS,
    "reads": READS,
    "boot_traces": BOOT_TRACES,
    "receipts": RECEIPTS,
}
