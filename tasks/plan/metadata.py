"""Where a layer's metadata lies, guessed from its extents: the manifest says how much there is, not where.

QEMU allocates from the front, and an L2 table just before the first cluster that it maps. So the clusters that hold no
data are metadata, and the nearest of them before the first data of a table's range is that table. A wrong guess costs
the prediction a few hundred KiB, nothing else: engines read the real tables.

    host clusters   H R B 1 T d d d d T d d d . . T d d
                    header, refcount table and block, L1, then tables T with their data d
"""

from dataclasses import dataclass

import numpy as np

from tasks.chain.extent import Extents, Ranges, ranges_of, subtract
from tasks.chain.layer import ExtentKind
from tasks.plan.inputs import LayerInput
from tasks.units import KIB

HEADER_BYTES = 64 * KIB  # engines' first read of a layer (its first cluster at least); all of it with known extents
_STORED = (ExtentKind.DATA, ExtentKind.COMPRESSED)


@dataclass(frozen=True, slots=True)
class Places:
    """Host offsets. `tables` by L2 index; -1 where no place could be guessed (then it is near the end)."""

    first: int  # bytes of the first read: the header's cluster at least
    fixed: Ranges  # refcount table and L1
    refcounts: Ranges  # the first refcount block
    tables: dict[int, int]
    table_bytes: int  # one L2 table: a cluster
    guest_bytes: int  # guest bytes of one L2 table

    def ranges(self) -> Ranges:
        """Where the tables are."""
        at = np.array(sorted({place for place in self.tables.values() if place >= 0}), np.int64)
        return ranges_of(at, at + self.table_bytes)

    @property
    def lost_bytes(self) -> int:
        """Tables without a place."""
        return sum(place < 0 for place in self.tables.values()) * self.table_bytes


def places_of(layer: LayerInput, extents: Extents) -> Places:
    """The guess."""
    size = layer.cluster_size
    guest = size * (size // (16 if layer.extended_l2 else 8))
    free = _free_clusters(layer, extents)
    tables: dict[int, int] = {}
    for index, first in _used_tables(extents, guest):
        tables[index] = _take_before(free, first // size) * size if first >= 0 else -1
    for index, place in tables.items():
        if place < 0 and free:
            tables[index] = free.pop(0) * size
    missing = layer.l2_tables - len(tables)  # tables without a single entry
    tables |= {-1 - k: free.pop(0) * size if free else -1 for k in range(max(0, missing))}
    found = {k: max(place, -1) for k, place in tables.items()}
    l1 = layer.l1_offset or 3 * size
    fixed = ranges_of(np.array([size, l1], np.int64), np.array([2 * size, l1 + layer.l1_entries * 8], np.int64))
    refcounts = ranges_of(np.array([2 * size], np.int64), np.array([3 * size], np.int64))
    return Places(min(layer.size_bytes, max(HEADER_BYTES, size)), fixed, refcounts, found, size, guest)


def _free_clusters(layer: LayerInput, extents: Extents) -> list[int]:
    """Clusters that hold no data, without header, refcount table, its first block and the L1 table."""
    size = layer.cluster_size
    stored = extents[np.isin(extents.kind, _STORED)]
    taken = ranges_of(stored.host_offset // size, -(-(stored.host_offset + stored.host_length) // size))
    fixed = 3 + -(-layer.l1_entries * 8 // size)
    every = Ranges(np.array([fixed], np.int64), np.array([max(fixed, -(-layer.size_bytes // size))], np.int64))
    gaps = subtract(every, taken)
    limit = 4 * layer.l2_tables + 64  # a sparse object: the rest are holes
    found: list[int] = []
    for start, end in gaps.pairs():
        found += range(start, min(end, start + limit - len(found)))
        if len(found) >= limit:
            break
    return found


def _used_tables(extents: Extents, guest: int) -> list[tuple[int, int]]:
    """(L2 index, lowest host offset of its data, or -1 for zeros only), by that offset."""
    if not len(extents):
        return []
    low, high = extents.start // guest, (extents.end - 1) // guest
    count = high - low + 1
    row = np.repeat(np.arange(len(extents)), count)
    index = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + low[row]
    shift = np.maximum(0, index * guest - extents.start[row])
    stored = np.isin(extents.kind[row], _STORED)
    plain = extents.kind[row] == ExtentKind.DATA
    host = np.where(stored, extents.host_offset[row] + np.where(plain, shift, 0), np.iinfo(np.int64).max)
    unique, inverse = np.unique(index, return_inverse=True)
    lowest = np.full(len(unique), np.iinfo(np.int64).max)
    np.minimum.at(lowest, inverse, host)
    order = np.argsort(lowest, kind="stable")
    pairs = zip(unique[order].tolist(), lowest[order].tolist(), strict=True)
    return [(number, -1 if first == np.iinfo(np.int64).max else first) for number, first in pairs]


def _take_before(free: list[int], cluster: int) -> int:
    """Take the nearest free cluster below; -1 if there is none."""
    for k in range(len(free) - 1, -1, -1):
        if free[k] < cluster:
            return free.pop(k)
    return -1
