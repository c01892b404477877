"""Facts of a layer as a row of the `layers` dataset, and extents as a table of the `extents` dataset."""

from typing import Any

import numpy as np
import pyarrow as pa

from tasks.chain.extent import I64, Extents
from tasks.chain.layer import ExtentKind, LayerFacts
from tasks.inventory.schema import EXTENTS
from tasks.store.base import ObjectInfo

OK, REFUSED, MISSING = "ok", "refused", "missing"
_INT32, _INT64 = (1 << 31) - 1, (1 << 63) - 1


class ExtentSums:
    """What a layer's extents add up to, counted as they stream by."""

    def __init__(self) -> None:
        self.rows = 0
        self.by_kind = np.zeros(len(ExtentKind), np.int64)
        self.stored = 0

    def add(self, extents: Extents) -> None:
        """Count a batch."""
        self.rows += len(extents)
        self.stored += extents.stored_bytes()
        # Sums of lengths by kind; a float's 53 bits hold 8 PiB exactly, the reader's bound on a disk is 1 PiB.
        sums = np.bincount(extents.kind, weights=extents.length, minlength=len(ExtentKind))
        self.by_kind += sums.astype(np.int64)

    def columns(self) -> dict[str, int]:
        """The columns of the `layers` dataset."""
        data, zero, zero_allocated, compressed = (int(count) for count in self.by_kind)
        return {
            "extents": self.rows,
            "data_bytes": data,
            "zero_bytes": zero + zero_allocated,
            "compressed_bytes": compressed,
            "stored_bytes": self.stored,
        }


def layer_row(
    item: ObjectInfo, region: str, layer_id: str, facts: LayerFacts, backing_id: str | None, sums: ExtentSums
) -> dict[str, Any]:
    """One row, without the columns that only the whole fleet gives (layer_no, parent_no, first_seen).

    Header fields of a refused layer are kept where they fit; what does not fit a column is null.
    """
    parsed = facts.version > 0 or facts.status == OK
    fields: dict[str, Any] = {
        "version": facts.version,
        "cluster_bits": facts.cluster_bits,
        "virtual_size": _fitting(facts.virtual_size, _INT64),
        "incompatible_features": facts.incompatible_features,
        "compatible_features": facts.compatible_features,
        "autoclear_features": facts.autoclear_features,
        "extended_l2": facts.extended_l2,
        "compression_type": facts.compression_type,
        "refcount_bits": facts.refcount_bits,
        "l1_entries": _fitting(facts.l1_entries, _INT32),
        "l1_offset": _fitting(facts.l1_offset, _INT64),
        "l2_tables": facts.l2_tables,
        "metadata_bytes": facts.metadata_bytes,
        "bitmaps": facts.bitmaps,
        "snapshots": _fitting(facts.snapshots, _INT32),
    }
    return {
        "layer_id": layer_id,
        "region": region,
        "key": item.key,
        "etag": item.etag,
        "size_bytes": item.size,
        "last_modified": item.last_modified,
        "status": facts.status,
        "reason": facts.reason,
        "detail": facts.detail,
        **(fields if parsed else {}),
        "backing_layer_id": backing_id,
        "backing_format": facts.backing_format,
        **sums.columns(),
    }


def _fitting(value: int, largest: int) -> int | None:
    return value if value <= largest else None


def extent_table(layer_no: int | I64, extents: Extents) -> pa.Table:
    """Rows of one layer, or of several with the number of each row's layer."""
    columns = [
        pa.array(np.broadcast_to(layer_no, len(extents)).astype(np.int32)),
        *(pa.array(np.ascontiguousarray(getattr(extents, name))) for name in EXTENTS.names[1:]),
    ]
    return pa.table(columns, schema=EXTENTS)


def raw_facts(size_bytes: int) -> LayerFacts:
    """A raw base that the policy lists: no metadata, all data. QEMU rounds the size up to a sector."""
    return LayerFacts(status=OK, version=0, virtual_size=-(-size_bytes // 512) * 512, refcount_bits=0)


def raw_extents(size_bytes: int) -> Extents:
    """One data extent."""
    virtual = -(-size_bytes // 512) * 512
    one = [np.array([value], np.int64) for value in (0, virtual, 0, size_bytes)]
    return Extents(one[0], one[1], np.array([ExtentKind.DATA], np.int8), one[2], one[3])[: int(size_bytes > 0)]
