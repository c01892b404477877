"""Blocks in which something begins or ends inside a unit: small clusters, sub-clusters, odd disk sizes.

A block is cut at every boundary that occurs in it. Per piece the path keeps the entry that shows it; a new entry takes
the pieces that it covers, and the log gives them back when the path leaves it. Exact to the byte, slower than words.
"""

import numpy as np
from numba import njit

from tasks.analytics.shadow.intervals import BLOCK, BLOCK_BITS, COMPRESSED, EXTENT, VOID, WHO
from tasks.analytics.shadow.pairs import STORED, add, grown, pair_key

# Columns of the path: an entry covers the pieces LOW to HIGH; LEFT bytes of it still show; LOG is where the log says
# what its pieces showed before, and where their counters are: heads that lost the piece.
_LAYER, _KIND, _EXTENT, _LOW, _HIGH, _LEFT, _LOG = range(7)


@njit(cache=True, nogil=True)
def _clipped(entries, i, extents, voids, block):
    """The entries of a block with the voids that reach into it, in preorder: rows (layer, kind, extent, start, end)."""
    first, last, source = entries.first[i], entries.first[i + 1], entries.rows
    rows = np.empty((last - first + voids.layer.size, 5), np.int64)
    place, filled, v = block << BLOCK_BITS, 0, 0
    for x in range(first, last + 1):
        while v < voids.layer.size and (x == last or voids.layer[v] <= np.int64(source[x, WHO] >> np.uint64(2))):
            if voids.start[v] < place + BLOCK and filled:  # what comes first has nothing to hide
                rows[filled, 0], rows[filled, 1], rows[filled, 2] = voids.layer[v], VOID, -1
                rows[filled, 3], rows[filled, 4] = max(voids.start[v], place), place + BLOCK
                filled += 1
            v += 1
        if x < last:
            extent, who = np.int64(source[x, EXTENT]), np.int64(source[x, WHO])
            rows[filled, 0], rows[filled, 1], rows[filled, 2] = who >> 2, who & 3, extent
            rows[filled, 3] = max(extents.start[extent], place)
            rows[filled, 4] = min(extents.end[extent], place + BLOCK)
            filled += 1
    return rows[:filled]


@njit(cache=True, nogil=True)
def _cut(rows):
    """Turn starts and ends into numbers of pieces; the boundaries of the pieces."""
    places = np.empty(2 * rows.shape[0], np.int64)
    for r in range(rows.shape[0]):
        places[2 * r], places[2 * r + 1] = rows[r, 3], rows[r, 4]
    places.sort()
    kept = 1
    for k in range(1, places.size):
        if places[kept - 1] != places[k]:
            places[kept] = places[k]
            kept += 1
    cuts = places[:kept]
    for r in range(rows.shape[0]):
        rows[r, 3], rows[r, 4] = np.searchsorted(cuts, rows[r, 3]), np.searchsorted(cuts, rows[r, 4])
    return cuts


@njit(cache=True, nogil=True)
def _finish(path, e, cuts, lost, heads, stored, visible):
    """Add what some head sees of an entry that all its descendants have passed."""
    layer, shown = path[e, _LAYER], np.int64(0)
    for p in range(path[e, _LOW], path[e, _HIGH]):
        if lost[path[e, _LOG] + p - path[e, _LOW]] < heads[layer]:
            shown += cuts[p + 1] - cuts[p]
    visible[layer, path[e, _KIND]] += shown
    if path[e, _KIND] == COMPRESSED and shown:
        visible[layer, STORED] += stored[path[e, _EXTENT]]


@njit(cache=True, nogil=True)
def _give_back(path, e, cuts, owner, victim):
    for p in range(path[e, _LOW], path[e, _HIGH]):
        before = victim[path[e, _LOG] + p - path[e, _LOW]]
        owner[p] = before
        if before >= 0:
            path[before, _LEFT] += cuts[p + 1] - cuts[p]


@njit(cache=True, nogil=True)
def _take(path, e, cuts, owner, victim, lost, heads, record, stored, keys, values):
    """Cover the pieces of entry `e`; with `record` note from whom each was taken. The number of new pairs."""
    layer, log, used = path[e, _LAYER], path[e, _LOG] - path[e, _LOW], 0
    shows = e if path[e, _KIND] != VOID else -1
    for p in range(path[e, _LOW], path[e, _HIGH]):
        before, length = owner[p], cuts[p + 1] - cuts[p]
        victim[log + p], lost[log + p] = before, 0
        owner[p] = shows
        if before < 0:
            continue
        path[before, _LEFT] -= length
        lost[path[before, _LOG] + p - path[before, _LOW]] += heads[layer]
        if record:
            below, kind = path[before, _LAYER], path[before, _KIND]
            used += add(keys, values, pair_key(layer, below, kind), length)
            if kind == COMPRESSED and path[before, _LEFT] == 0:
                used += add(keys, values, pair_key(layer, below, STORED), stored[path[before, _EXTENT]])
    return used


@njit(cache=True, nogil=True)
def _work_block(rows, subtree_end, heads, want_steals, want_visible, stored, visible, keys, values, used):
    cuts = _cut(rows)
    owner = np.full(cuts.size - 1, -1, np.int32)
    path, height, log = np.empty((rows.shape[0], 7), np.int64), 0, 0
    covered = np.sum(rows[:, 4] - rows[:, 3])
    victim, lost = np.empty(covered, np.int32), np.empty(covered, np.int32)
    for r in range(rows.shape[0] + 1):
        layer = rows[r, 0] if r < rows.shape[0] else np.int64(0x7FFFFFFF)
        while height and subtree_end[path[height - 1, _LAYER]] < layer:
            height -= 1
            if path[height, _KIND] != VOID and want_visible[path[height, _LAYER]]:
                _finish(path, height, cuts, lost, heads, stored, visible)
            _give_back(path, height, cuts, owner, victim)
            log = path[height, _LOG]
        if r == rows.shape[0]:
            break
        low, high = rows[r, 3], rows[r, 4]
        while 2 * (used + 2 * (high - low) + 1) > keys.size:
            keys, values = grown(keys, values)
        path[height, _LAYER], path[height, _KIND], path[height, _EXTENT] = layer, rows[r, 1], rows[r, 2]
        path[height, _LOW], path[height, _HIGH], path[height, _LOG] = low, high, log
        path[height, _LEFT] = cuts[high] - cuts[low]
        used += _take(path, height, cuts, owner, victim, lost, heads, want_steals[layer], stored, keys, values)
        log += high - low
        height += 1
    return keys, values, used


@njit(cache=True, nogil=True)
def work_cells(grid, entries, layers, voids, extents, visible, keys, values, used):
    """All odd blocks of a tree. The pair table may grow: use the one that is returned, and its count."""
    for i in range(grid.edges.size):
        if grid.odd[i] and entries.first[i] < entries.first[i + 1]:
            rows = _clipped(entries, i, extents, voids, grid.edges[i])
            keys, values, used = _work_block(
                rows,
                layers.last,
                layers.heads,
                layers.want_steals,
                layers.want_visible,
                extents.stored,
                visible,
                keys,
                values,
                used,
            )
    return keys, values, used
