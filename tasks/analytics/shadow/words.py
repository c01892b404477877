"""Intervals in which everything is aligned to units: a word of 64 bits per entry, bit operators only.

The entries come in preorder. A stack holds those on the path from the root to the current layer; `seen` are the bits of
an entry that nothing above it on this path hides yet. A new entry takes its bits from whoever still shows them (it
"steals" them), which the log undoes when the path leaves the entry again. Entries that show nothing are unlinked from
the list that a new entry walks, and linked again by the undo (dancing links): the walk passes at most 64 entries
however long the chain is.

A bit is visible in the end unless on the way to every head some entry stole it: `hidden` collects bits stolen by an
entry that all heads are above; for the others the heads are counted per bit.

Arrays go from function to function one by one: taken from a tuple they would be counted, atomically, at each access.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tasks.analytics.shadow.intervals import (
    BLOCK,
    BLOCK_BITS,
    COMPRESSED,
    EXTENT,
    FULL,
    MASK,
    NONE,
    UNIT,
    VOID,
    WHO,
    unit_mask,
)
from tasks.analytics.shadow.pairs import STORED, add, grown, pair_key

_ROOM = 2 * 64 + 2  # pairs that one entry can add, at most
# Columns of the stack, `way` (int64) and `bits` (uint64). `above` and `below` link entries that show something; -1 ends
# the list. `log`: where the entry's steals begin. `counted`: its row of `counts` is in use.
_LAYER, _KIND, _EXTENT, _ABOVE, _BELOW, _LOG, _COUNTED = range(7)
_MASK, _SEEN, _HIDDEN = range(3)


class Layers(NamedTuple):
    """Arrays over the layers of a bucket, in preorder."""

    last: Any  # int32, the end of the subtree, included
    heads: Any  # int32, layers with a head in the subtree
    is_head: Any  # bool
    want_steals: Any  # bool: record what this layer hides
    want_visible: Any  # bool: record what of this layer is visible


class Voids(NamedTuple):
    """Layers of the tree that end before a layer below them does: from `start` on they hide it, and show nothing."""

    layer: Any  # int32, ascending
    start: Any  # int64, guest byte


@njit(cache=True, nogil=True)
def popcount(x):
    """Number of set bits."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True, nogil=True)
def _count_heads(counts, row, fresh, taken, heads):
    if fresh:
        counts[row, :] = 0
    for bit in range(64):
        counts[row, bit] += heads * np.int32((taken >> np.uint64(bit)) & np.uint64(1))


@njit(cache=True, nogil=True)
def _shown(counts, row, counted, shown, heads):
    """The bits that some head sees, of those that are not hidden from all at once."""
    if counted:
        for bit in range(64):
            if counts[row, bit] == heads:
                shown &= ~(np.uint64(1) << np.uint64(bit))
    return shown


@njit(cache=True, nogil=True)
def _undo(way, bits, victim, loot, e, length, top):
    """Take entry `e` off the path; the new length of the log and the new top of the list."""
    if way[e, _KIND] != VOID:
        top = way[e, _BELOW]
        if top >= 0:
            way[top, _ABOVE] = -1
    while length > way[e, _LOG]:
        length -= 1
        owner = victim[length]
        if bits[owner, _SEEN] == 0:
            above, below = way[owner, _ABOVE], way[owner, _BELOW]
            if above >= 0:
                way[above, _BELOW] = owner
            else:
                top = owner
            if below >= 0:
                way[below, _ABOVE] = owner
        bits[owner, _SEEN] |= loot[length]
    return length, top


@njit(cache=True, nogil=True)
def _take(way, bits, owner, taken, top):
    """Take bits from an entry, and the entry from the list if it shows nothing more; the new top of the list."""
    bits[owner, _SEEN] ^= taken
    if bits[owner, _SEEN] == 0:
        above, below = way[owner, _ABOVE], way[owner, _BELOW]
        if above >= 0:
            way[above, _BELOW] = below
        else:
            top = below
        if below >= 0:
            way[below, _ABOVE] = above
    return top


@njit(cache=True, nogil=True)
def _push(way, bits, e, row, begin, top):
    """Lay an entry on the path; the new top of the list."""
    who, mask = np.int64(row[WHO]), row[MASK]
    kind = who & 3
    way[e, _LAYER], way[e, _KIND], way[e, _EXTENT] = who >> 2, kind, np.int64(row[EXTENT])
    way[e, _LOG], way[e, _COUNTED] = begin, 0
    bits[e, _MASK], bits[e, _SEEN], bits[e, _HIDDEN] = mask, mask, 0
    if kind == VOID:
        return top
    way[e, _BELOW], way[e, _ABOVE] = top, -1
    if top >= 0:
        way[top, _ABOVE] = e
    return e


@njit(cache=True, nogil=True)
def _merged(rows, first, last, voids, block):
    """The entries of an interval with the voids that reach into it, in preorder."""
    merged = np.empty((last - first + voids.layer.size, 3), np.uint64)
    place, filled, v = block << BLOCK_BITS, 0, 0
    for x in range(first, last + 1):
        while v < voids.layer.size and (x == last or voids.layer[v] <= np.int64(rows[x, WHO] >> np.uint64(2))):
            start = voids.start[v]
            if start < place + BLOCK and filled:  # what comes first has nothing to hide
                merged[filled, MASK] = unit_mask(start, place + BLOCK, block) if start > place else FULL
                merged[filled, WHO], merged[filled, EXTENT] = np.int64(voids.layer[v]) << 2 | VOID, NONE
                filled += 1
            v += 1
        if x < last:
            merged[filled] = rows[x]
            filled += 1
    return merged[:filled]


@njit(cache=True, nogil=True)
def work_words(grid, entries, layers, voids, stored, visible, keys, values, used):
    """All aligned intervals of a tree. The pair table may grow: use the one that is returned, and its count."""
    subtree_end, heads, is_head = layers.last, layers.heads, layers.is_head
    want_steals, want_visible = layers.want_steals, layers.want_visible
    size = 1 + voids.layer.size + np.diff(entries.first).max()
    way, bits = np.empty((size, 7), np.int64), np.empty((size, 3), np.uint64)
    counts, victim, loot = np.empty((size, 64), np.int32), np.empty(size * 64, np.int64), np.empty(size * 64, np.uint64)
    edges, odd, entry_first, some_voids = grid.edges, grid.odd, entries.first, voids.layer.size > 0
    rows = entries.rows
    for i in range(edges.size):
        first, last = entry_first[i], entry_first[i + 1]
        if first == last or odd[i]:
            continue
        unit_bytes = (edges[i + 1] - edges[i]) * UNIT
        if some_voids:
            rows = _merged(entries.rows, first, last, voids, edges[i])
            first, last = 0, rows.shape[0]
        height, length, top = 0, 0, -1
        for x in range(first, last + 1):
            layer = np.int64(rows[x, WHO] >> np.uint64(2)) if x < last else np.int64(1 << 40)
            while height and (x == last or subtree_end[way[height - 1, _LAYER]] < layer):
                height -= 1
                owner, kind = way[height, _LAYER], way[height, _KIND]
                if kind != VOID and want_visible[owner]:
                    shown = bits[height, _MASK] & ~bits[height, _HIDDEN]
                    shown = _shown(counts, height, way[height, _COUNTED], shown, heads[owner])
                    visible[owner, kind] += popcount(shown) * unit_bytes
                    if kind == COMPRESSED and shown:
                        visible[owner, STORED] += stored[way[height, _EXTENT]]
                length, top = _undo(way, bits, victim, loot, height, length, top)
            if x == last:
                break
            if 2 * (used + _ROOM) > keys.size:
                keys, values = grown(keys, values)
            begin, left, e = length, rows[x, MASK], top
            while e >= 0 and left:
                below = way[e, _BELOW]
                taken = bits[e, _SEEN] & left
                if taken:
                    left ^= taken
                    top = _take(way, bits, e, taken, top)
                    victim[length], loot[length] = e, taken
                    length += 1
                    owner, kind = way[e, _LAYER], way[e, _KIND]
                    if want_steals[layer]:
                        used += add(keys, values, pair_key(layer, owner, kind), popcount(taken) * unit_bytes)
                        if kind == COMPRESSED and bits[e, _SEEN] == 0:
                            used += add(keys, values, pair_key(layer, owner, STORED), stored[way[e, _EXTENT]])
                    if heads[owner] == heads[layer]:
                        bits[e, _HIDDEN] |= taken
                    elif want_visible[owner] and not is_head[owner]:
                        _count_heads(counts, e, way[e, _COUNTED] == 0, taken, heads[layer])
                        way[e, _COUNTED] = 1
                e = below
            top = _push(way, bits, height, rows[x], begin, top)
            height += 1
    return keys, values, used
