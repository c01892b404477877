"""The map of layers that no manifest has yet, window by window: only the L2 tables that map the window are read."""

from collections.abc import Sequence

import numpy as np

from tasks.cache.slices import ChainLayer
from tasks.cache.tables import LayerTables, Read
from tasks.chain.extent import Extents, clip, coalesce, empty
from tasks.chain.qcow2_l2 import L2Decoder
from tasks.chain.qcow2_ranges import Blocks, coalesce_tables
from tasks.chain.qcow2_usage import HostUsage

WINDOW_TABLES = 64  # L2 tables of a layer per window: 4 MiB and 32 GiB of the guest's disk with 64 KiB clusters


class FreshLayer:
    """One layer whose tables are read when they are needed."""

    def __init__(self, layer_id: str, region: str, tables: LayerTables, read: Read) -> None:
        self.layer_id = layer_id
        self.region = region
        self.tables = tables
        self._read = read
        clusters = -(-tables.size_bytes // tables.header.cluster_size)
        self._decoder = L2Decoder(tables.header, tables.size_bytes, HostUsage(clusters))

    def extents(self, window: tuple[int, int]) -> Extents:
        """Extents inside the window, which must begin and end where tables do. Refused if a table is unsound.

        Ask for each window once: the decoder notes which clusters are taken.
        """
        header = self.tables.header
        first, end = window[0] // header.l2_guest_bytes, -(-window[1] // header.l2_guest_bytes)
        index = np.flatnonzero(self.tables.l2_offsets[first:end]) + first
        if not len(index):
            return empty()
        offsets, size = self.tables.l2_offsets[index], header.cluster_size
        ranges = coalesce_tables(offsets, size)
        blocks = Blocks(ranges, [self._read(one.start, one.length) for one in ranges])
        tables = np.empty((len(index), size), np.uint8)
        assert blocks.tables(offsets, size, tables).all()
        found = self._decoder.decode(tables, index * header.l2_guest_bytes)
        return clip(coalesce(found), 0, header.virtual_size)

    def at(self, window: tuple[int, int]) -> ChainLayer:
        """The layer as it is in the window."""
        return ChainLayer(self.layer_id, self.region, self.tables.size_bytes, self.extents(window), self.tables)


def windows_of(fresh: Sequence[FreshLayer], disk_bytes: int) -> list[tuple[int, int]]:
    """Guest ranges that cover the disk, the deepest first: where most of the fresh layers have tables, reads of a
    guest are slowest. Windows without any table are at the end: what is there is the older layers'."""
    unit = max((layer.tables.header.l2_guest_bytes for layer in fresh), default=0) * WINDOW_TABLES
    if not unit:
        return [(0, disk_bytes)]
    starts = range(0, max(1, disk_bytes), unit)
    depth = {start: _depth(fresh, start, start + unit) for start in starts}
    ordered = sorted(starts, key=lambda start: (*(-count for count in depth[start]), start))
    return [(start, min(start + unit, disk_bytes)) for start in ordered]


def _depth(fresh: Sequence[FreshLayer], start: int, end: int) -> tuple[int, int]:
    """Layers with tables in the range, and their tables."""
    counts = []
    for layer in fresh:
        covered = layer.tables.header.l2_guest_bytes
        counts.append(int(np.count_nonzero(layer.tables.l2_offsets[start // covered : -(-end // covered)])))
    return sum(count > 0 for count in counts), sum(counts)
