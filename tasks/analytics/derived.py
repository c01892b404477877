"""Arrow schemas of the derived datasets: what `tasks.analytics.derive` computes from a manifest and lays next to it."""

import pyarrow as pa

# One row per layer whose chain reaches a base. "Visible": from at least one head. Bytes of the guest unless it says
# stored; everything is cut at the layer's virtual size.
SHADOW_LAYERS = pa.schema(
    [
        ("layer_no", pa.int32()),
        ("live", pa.bool_()),  # some head's chain holds it
        ("exact", pa.bool_()),  # false: a refused or missing layer above it may hide more than is known
        ("heads", pa.int32()),  # heads whose chain holds it
        ("depth", pa.int32()),  # layers of its chain, itself included
        ("root_no", pa.int32()),
        ("run_top_no", pa.int32()),  # top of its run: the stretch without fork or head inside; null if not live
        ("run_position", pa.int32()),  # 0 = the run's top
        ("data_bytes", pa.int64()),
        ("zero_bytes", pa.int64()),
        ("compressed_bytes", pa.int64()),
        ("compressed_stored_bytes", pa.int64()),
        ("visible_data_bytes", pa.int64()),
        ("visible_zero_bytes", pa.int64()),
        ("visible_compressed_bytes", pa.int64()),
        ("visible_compressed_stored_bytes", pa.int64()),  # stored length of clusters with a visible byte
        ("path_key", pa.uint64()),  # content of the chain from its base to this layer: steals of this layer hold for it
        ("cone_key", pa.uint64()),  # content above it up to the nearest heads: the visible bytes hold for it
    ]
)

# The steal matrix: bytes of `lower_no` for which `upper_no` is the nearest layer above that hides them. On any path,
# visible(layer) = allocated - the sum of the steals of the layers above it on that path.
STEALS = pa.schema(
    [
        ("upper_no", pa.int32()),
        ("lower_no", pa.int32()),
        ("data_bytes", pa.int64()),
        ("zero_bytes", pa.int64()),
        ("compressed_bytes", pa.int64()),
        ("compressed_stored_bytes", pa.int64()),  # of clusters whose last visible byte the upper layer takes
    ]
)

DERIVED = {"shadow_layers": SHADOW_LAYERS, "steals": STEALS}
