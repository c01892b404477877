"""The metadata of a composed image, from its layout; and the map that a reader must find in it. Pure."""

import struct
from collections.abc import Iterator

import numpy as np

from tasks.chain.compose_layout import Layout
from tasks.chain.extent import I64, Extents, clip, coalesce
from tasks.chain.header_rewrite import rewrite_backing
from tasks.chain.layer import ExtentKind
from tasks.chain.qcow2_layout import (
    BIT_COMPRESSION,
    KNOWN_HEADER_BYTES,
    L2_COMPRESSED,
    L2_COPIED,
    L2_ZERO,
    MAGIC,
    SECTOR,
)

REFCOUNT_ORDER = 4  # 16 bits
_GROUP_TABLES = 128  # L2 tables that are built and held at once


def metadata(layout: Layout, backing_name: str | None, compression_type: str) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of everything in front of the packed pieces, in order."""
    size, tables = layout.cluster_size, layout.tables
    yield 0, header(layout, backing_name, compression_type)
    yield tables.reftable * size, _reftable(layout)
    yield tables.refblocks * size, refcounts(layout)
    yield tables.l1 * size, _l1(layout)
    for low in range(0, len(tables.l2_used), _GROUP_TABLES):
        yield (tables.l2 + low) * size, _l2(layout, tables.l2_used[low : low + _GROUP_TABLES])


def header(layout: Layout, backing_name: str | None, compression_type: str) -> bytes:
    """The first cluster: version 3, 16-bit refcounts, no optional feature but zstd where the sources have it."""
    zstd = compression_type == "zstd"
    tables = layout.tables
    fixed = struct.pack(
        ">IIQIIQIIQQIIQ",
        MAGIC,
        3,
        0,
        0,
        layout.cluster_bits,
        layout.virtual_size,
        0,
        tables.l1_entries,
        tables.l1 * layout.cluster_size,
        tables.reftable * layout.cluster_size,
        tables.reftable_clusters,
        0,
        0,
    )
    fixed += struct.pack(">QQQIIB7x", BIT_COMPRESSION if zstd else 0, 0, 0, REFCOUNT_ORDER, KNOWN_HEADER_BYTES, zstd)
    return rewrite_backing(fixed.ljust(layout.cluster_size, b"\0"), backing_name, "qcow2" if backing_name else None)


def refcounts(layout: Layout) -> bytes:
    """The refcount blocks. A cluster that holds compressed data counts the compressed clusters that touch it."""
    size = layout.cluster_size
    counts = np.zeros(layout.tables.refblock_clusters * size // 2, np.int64)
    counts[: layout.tables.end] = 1
    pieces = layout.pieces
    first = layout.target >> layout.cluster_bits
    np.add.at(counts, first, 1)
    last = (_sector_end(layout) - 1) >> layout.cluster_bits
    for step in (1, 2):
        more = pieces.compressed & (first + step <= last)
        np.add.at(counts, first[more] + step, 1)
    return counts.astype(">u2").tobytes()


def expected_extents(layout: Layout) -> Extents:
    """What our reader must find in the composed object."""
    size, pieces, zero = layout.cluster_size, layout.pieces, layout.zero_guest
    stored = np.where(pieces.compressed, np.minimum(_sector_end(layout), layout.total_bytes) - layout.target, size)
    kind = np.where(pieces.compressed, ExtentKind.COMPRESSED, ExtentKind.DATA).astype(np.int8)
    nothing = np.zeros(len(zero), np.int64)
    start = np.concatenate((pieces.guest, zero)) * size
    order = np.argsort(start, kind="stable")
    found = Extents(
        start[order],
        np.full(len(start), size, np.int64),
        np.concatenate((kind, np.full(len(zero), ExtentKind.ZERO, np.int8)))[order],
        np.concatenate((layout.target, nothing - 1))[order],
        np.concatenate((stored, nothing))[order],
    )
    return clip(coalesce(found), 0, layout.virtual_size)


def _sector_end(layout: Layout) -> I64:
    """Where the sectors of each piece end in the result."""
    end = layout.target + layout.pieces.length
    return -(-end // SECTOR) * SECTOR


def _reftable(layout: Layout) -> bytes:
    tables = layout.tables
    table = np.zeros(tables.reftable_clusters * layout.cluster_size // 8, np.int64)
    table[: tables.refblock_clusters] = (tables.refblocks + np.arange(tables.refblock_clusters)) << layout.cluster_bits
    return table.astype(">u8").tobytes()


def _l1(layout: Layout) -> bytes:
    tables = layout.tables
    table = np.zeros((tables.l2 - tables.l1) * layout.cluster_size // 8, np.uint64)
    places = (tables.l2 + np.arange(len(tables.l2_used))) << layout.cluster_bits
    table[tables.l2_used] = places.astype(np.uint64) | np.uint64(L2_COPIED)
    return table.astype(">u8").tobytes()


def _l2(layout: Layout, used: I64) -> bytes:
    """The tables of some L1 indexes, one after the other."""
    per_table = layout.cluster_size // 8
    tables = np.zeros(len(used) * per_table, np.uint64)
    low, high = int(used[0]) * per_table, (int(used[-1]) + 1) * per_table
    guest = layout.pieces.guest
    rows = slice(int(np.searchsorted(guest, low)), int(np.searchsorted(guest, high)))
    tables[_slot(guest[rows], used, per_table)] = _entries(layout, rows)
    zero = layout.zero_guest[slice(*np.searchsorted(layout.zero_guest, (low, high)).tolist())]
    tables[_slot(zero, used, per_table)] = np.uint64(L2_ZERO)
    return tables.astype(">u8").tobytes()


def _slot(guest: I64, used: I64, per_table: int) -> I64:
    return np.asarray(np.searchsorted(used, guest // per_table) * per_table + guest % per_table)


def _entries(layout: Layout, rows: slice) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    target = layout.target[rows]
    sectors = (_sector_end(layout)[rows] - target // SECTOR * SECTOR) // SECTOR - 1
    shift = 62 - (layout.cluster_bits - 8)
    packed = np.uint64(L2_COMPRESSED) | (sectors.astype(np.uint64) << np.uint64(shift)) | target.astype(np.uint64)
    plain = target.astype(np.uint64) | np.uint64(L2_COPIED)
    return np.where(layout.pieces.compressed[rows], packed, plain)
