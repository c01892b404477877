"""The path from a tree's root to the layer at hand: who on it shows which pieces, undone when the path turns back.

A node is what one layer holds of one word, with one kind. Its `seen` bits are those that nothing above it on the path
hides yet. A new node takes its bits from whoever still shows them (it "steals" them), which the log undoes when the
path leaves the node's layer again. Nodes that show nothing are unlinked from their word's list, and linked again by the
undo (dancing links): a new node passes at most 64 others however long the chain is.

A bit is visible in the end unless on the way to every head some node stole it: `hidden` collects bits stolen by a layer
that all heads are above; for the others the heads are counted per bit.

Arrays go from function to function one by one, without an owner: see bare.py.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tasks.analytics.shadow.bare import soon
from tasks.analytics.shadow.places import COMPRESSED, VOID, weight

STORED = 3  # column of the stored bytes of compressed clusters, after DATA, ZERO and COMPRESSED
# Columns of `nodes`. OWNER: where on the path its layer is, whether its row of `counts` is in use, and the kind. ABOVE
# and BELOW link the nodes of a word that show something; -1 ends the list. LOG: where its steals begin.
MASK, SEEN, HIDDEN, OWNER, WORD, ABOVE, BELOW, LOG = range(8)
_PLACE, _COUNTED, _KIND = 3, 4, 3  # shift and masks of OWNER
# Columns of `squeezed`, for the nodes of compressed extents: the extent's number, the FIRST of its nodes, and there how
# many of them have something LEFT to see.
EXTENT, FIRST, LEFT = range(3)
# Columns of `way`, a row per layer on the path. COUNTS: what no head sees of it is wanted (a head sees all of its own).
LAYER, BEGIN, HEADS, COUNTS = range(4)
# Columns of `loot`, a row per layer on the path: bytes by kind that the layer at hand took from it, and whether any.
TAKEN = 4


class Room(NamedTuple):
    """What a path stands on; grows, and is used for one tree after the other."""

    nodes: Any  # int64, see above: one cache line each
    squeezed: Any  # int64
    counts: Any  # int32, by node and bit
    log: Any  # int64: the node from which bits were stolen, the bits
    entries: Any  # int64: what the layer at hand holds, as rows (word, mask, kind, extent)


@njit(cache=True, nogil=True)
def new_room(size):
    """Room for so many nodes."""
    nodes, squeezed, counts = (
        np.empty((size, 8), np.int64),
        np.empty((size, 3), np.int64),
        np.empty((size, 64), np.int32),
    )
    return Room(nodes, squeezed, counts, np.empty((size, 2), np.int64), np.empty((size, 4), np.int64))


@njit(cache=True, nogil=True)
def _wider(rows, used, size):
    wider = np.empty((size, rows.shape[1]), rows.dtype)
    wider[:used] = rows[:used]
    return wider


@njit(cache=True, nogil=True)
def with_nodes(room, used, wanted):
    """The same with room for so many nodes besides those in use."""
    if used + wanted <= room.nodes.shape[0]:
        return room
    size = (used + wanted) * 3 // 2
    nodes, squeezed = _wider(room.nodes, used, size), _wider(room.squeezed, used, size)
    return Room(nodes, squeezed, _wider(room.counts, used, size), room.log, room.entries)


@njit(cache=True, nogil=True)
def with_log(room, length):
    """The same with room for the steals of one more entry in the log: each of its bits once."""
    if length + 64 <= room.log.shape[0]:
        return room
    return Room(room.nodes, room.squeezed, room.counts, _wider(room.log, length, 2 * length + 64), room.entries)


@njit(cache=True, nogil=True)
def with_entries(room, wanted):
    """The same with room for so many entries, which are lost."""
    return Room(room.nodes, room.squeezed, room.counts, room.log, np.empty((2 * wanted, 4), np.int64))


@njit(inline="always")
def _count_heads(counts, e, fresh, taken, heads):
    for bit in range(64):
        before = np.int32(0) if fresh else counts[e, bit]
        counts[e, bit] = before + heads * np.int32((taken >> np.uint64(bit)) & np.uint64(1))


@njit(inline="always")
def _lost(counts, e, heads):
    """The bits that all heads lost, one after the other."""
    lost = np.uint64(0)
    for bit in range(64):
        lost |= np.uint64(counts[e, bit] == heads) << np.uint64(bit)
    return lost


@njit(inline="always")
def _join(nodes, top, word, e, lower, upper):
    """In the list of a word, let `lower` follow what is above node `e`, and `upper` precede what is below it."""
    above, below = nodes[e, ABOVE], nodes[e, BELOW]
    if above >= 0:
        nodes[above, BELOW] = lower
    else:
        top[word] = lower
    if below >= 0:
        nodes[below, ABOVE] = upper


@njit(inline="always")
def _unlink(nodes, top, word, e):
    _join(nodes, top, word, e, nodes[e, BELOW], nodes[e, ABOVE])


@njit(inline="always")
def _link(nodes, top, word, e):
    _join(nodes, top, word, e, e, e)


@njit(inline="always")
def steal(word, left, heads, record, at, stored, nodes, squeezed, counts, top, way, loot, log, length):
    """Take the bits `left` of a word from the nodes that show them, with `record` note it in `loot`.

    Returns the log's new length.
    """
    e = top[word]
    while e >= 0 and left:
        below = nodes[e, BELOW]
        soon(nodes, below << 3)
        taken = np.uint64(nodes[e, SEEN]) & left
        if taken:
            left ^= taken
            nodes[e, SEEN] ^= np.int64(taken)
            log[length, 0], log[length, 1] = e, np.int64(taken)
            length += 1
            owner = nodes[e, OWNER]
            place, kind = owner >> _PLACE, owner & _KIND
            if record:
                loot[place, kind] += weight(taken, word, at)
                loot[place, TAKEN] = 1
            if nodes[e, SEEN] == 0:
                _unlink(nodes, top, word, e)
                if kind == COMPRESSED:
                    squeezed[squeezed[e, FIRST], LEFT] -= 1
                    if record and squeezed[squeezed[e, FIRST], LEFT] == 0:
                        loot[place, STORED] += stored[squeezed[e, EXTENT]]
            if way[place, HEADS] == heads:
                nodes[e, HIDDEN] |= np.int64(taken)
            elif way[place, COUNTS]:
                _count_heads(counts, e, owner & _COUNTED == 0, taken, np.int32(heads))
                nodes[e, OWNER] = owner | _COUNTED
        e = below
    return length


@njit(inline="always")
def push(word, mask, kind, extent, place, nodes, squeezed, top, e, begin):
    """Lay node `e` on the path, on top of its word. Nodes of one compressed extent come one after the other."""
    owner = place << _PLACE | kind
    nodes[e, MASK], nodes[e, SEEN], nodes[e, HIDDEN] = mask, mask, 0
    nodes[e, OWNER], nodes[e, WORD], nodes[e, LOG] = owner, word, begin
    if kind == VOID:
        return
    if kind == COMPRESSED:
        goes_on = e > 0 and nodes[e - 1, OWNER] == owner and squeezed[e - 1, EXTENT] == extent
        first = squeezed[e - 1, FIRST] if goes_on else e
        squeezed[e, EXTENT], squeezed[e, FIRST], squeezed[e, LEFT] = extent, first, 0
        squeezed[first, LEFT] += 1
    nodes[e, BELOW], nodes[e, ABOVE] = top[word], -1
    _link(nodes, top, word, e)


@njit(inline="always")
def give_back(begin, nodes, squeezed, top, log, length):
    """Undo the steals from `begin` on; the log's new length."""
    while length > begin:
        length -= 1
        victim = log[length, 0]
        if nodes[victim, SEEN] == 0:
            _link(nodes, top, nodes[victim, WORD], victim)
            if nodes[victim, OWNER] & _KIND == COMPRESSED:
                squeezed[squeezed[victim, FIRST], LEFT] += 1
        nodes[victim, SEEN] |= log[length, 1]
    return length


@njit(inline="always")
def undo(e, nodes, squeezed, top, log, length):
    """Take the last node off the path; the log's new length."""
    if nodes[e, OWNER] & _KIND != VOID:
        _unlink(nodes, top, nodes[e, WORD], e)
    return give_back(nodes[e, LOG], nodes, squeezed, top, log, length)


@njit(cache=True, nogil=True)
def add_hidden(begin, end, heads, layer, hidden, at, stored, nodes, squeezed, counts):
    """Add what no head sees of a layer's nodes to its row of sums, by kind."""
    some = np.uint64(0)
    for e in range(end - 1, begin - 1, -1):
        kind, lost = nodes[e, OWNER] & _KIND, np.uint64(nodes[e, HIDDEN])
        if kind == VOID:
            continue
        mask = np.uint64(nodes[e, MASK])
        if nodes[e, OWNER] & _COUNTED:
            lost |= mask & _lost(counts, e, heads)
        hidden[layer, kind] += weight(lost, nodes[e, WORD], at)
        if kind == COMPRESSED:
            some |= mask & ~lost
            if squeezed[e, FIRST] == e:
                if not some:
                    hidden[layer, STORED] += stored[squeezed[e, EXTENT]]
                some = np.uint64(0)
