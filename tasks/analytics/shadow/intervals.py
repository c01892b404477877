"""Cut a tree's guest addresses into intervals of whole blocks in which nothing begins or ends but in single blocks.

A block is 4 MiB: 64 units of 64 KiB, one word. An extent becomes at most two partial blocks and a middle of whole ones.
Every block in which an extent of the tree begins or ends is an interval by itself; a stretch of blocks between them
holds the same whole-block extents throughout, so it is worked once, however long it is.

An entry is one layer's part of one interval. Entries lie interval by interval, layers in preorder within.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

BLOCK_BITS, UNIT_BITS = 22, 16
BLOCK, UNIT = 1 << BLOCK_BITS, 1 << UNIT_BITS
FULL = np.uint64(0xFFFFFFFFFFFFFFFF)
DATA, ZERO, COMPRESSED, VOID = 0, 1, 2, 3
_DENSE_FLOOR, _DENSE_FACTOR = 4096, 32  # an index by block is used up to this many blocks (per extent)


class Extents(NamedTuple):
    """Arrays over the extents of a bucket; those of layer `v` are `first[v]` to `first[v + 1]`, cut at its size."""

    first: Any  # int64
    start: Any  # int64, guest byte
    end: Any  # int64
    kind: Any  # int8: DATA, ZERO or COMPRESSED
    stored: Any  # int64, host bytes; used for compressed ones only


class Grid(NamedTuple):
    """The intervals of one tree: `edges[i]` is the first block of interval `i`, which ends at `edges[i + 1]`."""

    edges: Any  # int64
    index: Any  # int32, interval by block; empty when blocks are looked up by bisection
    odd: Any  # bool: an extent or a size ends inside a unit of this (single-block) interval


class Entries(NamedTuple):
    """See the module. A row is (MASK: a bit per unit, WHO: layer and kind, EXTENT: its number, NONE where merged)."""

    first: Any  # int64, by interval
    rows: Any  # uint64, three columns: a row is written at once, so that it costs one cache line


MASK, WHO, EXTENT = range(3)
NONE = np.uint64(0xFFFFFFFFFFFFFFFF)


@njit(cache=True, nogil=True)
def find(edges, index, block):
    """The interval that holds a block."""
    if index.size:
        return np.int64(index[block])
    low, high = 0, edges.size
    while high - low > 1:
        middle = (low + high) >> 1
        if edges[middle] <= block:
            low = middle
        else:
            high = middle
    return np.int64(low)


@njit(cache=True, nogil=True)
def unit_mask(start, end, block):
    """Bits of the units of a block that `[start, end)` covers."""
    low = max(start - (block << BLOCK_BITS), 0) >> UNIT_BITS
    high = min(end - (block << BLOCK_BITS), BLOCK) >> UNIT_BITS
    return (FULL >> np.uint64(64 - (high - low))) << np.uint64(low)


@njit(cache=True, nogil=True)
def _dense_edges(extents, low, high, limits, blocks):
    mark = np.zeros(blocks + 2, np.int32)
    for x in range(low, high):
        start, end = extents.start[x], extents.end[x]
        mark[start >> BLOCK_BITS] = 1
        mark[(start + BLOCK - 1) >> BLOCK_BITS] = 1
        mark[end >> BLOCK_BITS] = 1
        mark[(end + BLOCK - 1) >> BLOCK_BITS] = 1
    for limit in limits:
        if limit >> BLOCK_BITS <= blocks:
            mark[limit >> BLOCK_BITS] = 1
            mark[(limit + BLOCK - 1) >> BLOCK_BITS] = 1
    edges = np.empty(mark.sum(), np.int64)
    seen = 0
    for block in range(mark.size):
        if mark[block]:
            edges[seen] = block
            seen += 1
        mark[block] = seen - 1
    return edges, mark


@njit(cache=True, nogil=True)
def _sorted_edges(extents, low, high, limits):
    events = np.empty(4 * (high - low) + 2 * limits.size, np.int64)
    filled = 0
    for x in range(low, high):
        for place in (extents.start[x], extents.end[x]):
            events[filled] = place >> BLOCK_BITS
            events[filled + 1] = (place + BLOCK - 1) >> BLOCK_BITS
            filled += 2
    for limit in limits:
        events[filled] = limit >> BLOCK_BITS
        events[filled + 1] = (limit + BLOCK - 1) >> BLOCK_BITS
        filled += 2
    events.sort()
    kept = 0
    for k in range(filled):
        if kept == 0 or events[kept - 1] != events[k]:
            events[kept] = events[k]
            kept += 1
    return events[:kept].copy()


@njit(cache=True, nogil=True)
def make_grid(extents, low, high, limits):
    """The intervals of the extents `low` to `high`; `limits` are the sizes at which shrunk layers end."""
    last, odd_places = np.int64(0), False
    for x in range(low, high):
        last = max(last, extents.end[x])
        odd_places |= ((extents.start[x] | extents.end[x]) & (UNIT - 1)) != 0
    for limit in limits:
        odd_places |= (limit & (UNIT - 1)) != 0
    blocks = (last + BLOCK - 1) >> BLOCK_BITS
    if blocks <= _DENSE_FLOOR + _DENSE_FACTOR * (high - low):
        edges, index = _dense_edges(extents, low, high, limits, blocks)
    else:
        edges, index = _sorted_edges(extents, low, high, limits), np.empty(0, np.int32)
    odd = np.zeros(edges.size, np.bool_)
    if odd_places:
        for x in range(low, high):
            for place in (extents.start[x], extents.end[x]):
                if place & (UNIT - 1):
                    odd[find(edges, index, place >> BLOCK_BITS)] = True
        for limit in limits:
            if limit & (UNIT - 1) and limit >> BLOCK_BITS < blocks:
                odd[find(edges, index, limit >> BLOCK_BITS)] = True
    return Grid(edges, index, odd)


@njit(cache=True, nogil=True)
def _flush(free, rows, interval, layer, merged):
    """Write the merged units of an interval (or only count them, while there is nowhere to write)."""
    for kind in range(2):
        if merged[kind]:
            if rows.size:
                at = free[interval]
                rows[at, MASK], rows[at, WHO], rows[at, EXTENT] = merged[kind], layer << 2 | kind, NONE
            free[interval] += 1
            merged[kind] = 0


@njit(cache=True, nogil=True)
def _emit(first, starts, ends, kinds, layers, edges, index, odd, free, rows):
    """Count the entries of each interval in `free`; with rows to write to, write them from `free` on.

    Plain arrays only: see words.py.
    """
    merged = np.zeros(2, np.uint64)  # the current interval's units by kind: neighbours become one entry
    for layer in range(layers[0], layers[1]):
        current = np.int64(-1)
        for x in range(first[layer], first[layer + 1]):
            start, end, kind = starts[x], ends[x], kinds[x]
            block, last = start >> BLOCK_BITS, (end - 1) >> BLOCK_BITS
            while block <= last:
                interval = find(edges, index, block)
                whole = start <= block << BLOCK_BITS and end >= (block + 1) << BLOCK_BITS
                if not (whole or odd[interval] or kind == COMPRESSED):
                    if interval != current:
                        _flush(free, rows, current, layer, merged)
                        current = interval
                    merged[kind] |= unit_mask(start, end, block)
                else:
                    if rows.size:
                        at = free[interval]
                        rows[at, MASK] = FULL if whole or odd[interval] else unit_mask(start, end, block)
                        rows[at, WHO], rows[at, EXTENT] = layer << 2 | kind, x
                    free[interval] += 1
                block = edges[interval + 1] if whole else block + 1
        _flush(free, rows, current, layer, merged)


@njit(cache=True, nogil=True)
def make_entries(extents, low_layer, high_layer, grid):
    """The entries of the layers `low_layer` to `high_layer` (a tree in preorder)."""
    source = (extents.first, extents.start, extents.end, extents.kind, (low_layer, high_layer))
    where = (grid.edges, grid.index, grid.odd)
    count = np.zeros(grid.edges.size, np.int64)
    _emit(*source, *where, count, np.empty((0, 3), np.uint64))
    first = np.zeros(grid.edges.size + 1, np.int64)
    first[1:] = np.cumsum(count)
    rows = np.empty((first[grid.edges.size], 3), np.uint64)
    _emit(*source, *where, first[:-1].copy(), rows)
    return Entries(first, rows)
