"""Work the trees of a bucket, each layer once, in preorder: sums per layer, and the steal matrix.

What a tree needs at a time is its places and the path to one layer: both stay in the processor's caches however many
layers the tree has.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tasks.analytics.shadow import path
from tasks.analytics.shadow.bare import bare, bare_rows, soon
from tasks.analytics.shadow.held import AHEAD, EXTENT, KIND, MASK, WORD, entries_of
from tasks.analytics.shadow.places import COMPRESSED, WORD_BITS, lowest, number_places

_FIRST_NODES = 4096
_EXTENTS_PER_STEAL = 6  # at first there is room for so many steals
_KINDS = 4  # DATA, ZERO, COMPRESSED, stored bytes of COMPRESSED


class Trees(NamedTuple):
    """Trees of a bucket: layers `first[t]` to `first[t + 1]`; `size[v]` is a layer's virtual size, in bytes."""

    first: Any  # int32
    parent: Any  # int32, by layer
    size: Any  # int64, by layer; layers that could not be read have one that cuts nothing


class Layers(NamedTuple):
    """Arrays over the layers of a bucket, in preorder."""

    last: Any  # int32, the end of the subtree, included
    heads: Any  # int32, layers with a head in the subtree
    is_head: Any  # bool
    want_steals: Any  # bool: record what this layer hides
    want_visible: Any  # bool: record what of this layer is visible
    wanted: Any  # bool: a head, or a layer of which something is to be recorded, is in the subtree


@njit(cache=True, nogil=True)
def _sum_extents(extents, low, high, allocated, reach):
    """What each layer holds, and where it ends."""
    starts, ends, kinds, stored, first = extents.start, extents.end, extents.kind, extents.stored, extents.first
    for v in range(low, high):
        last = np.int64(0)
        for x in range(first[v], first[v + 1]):
            allocated[v, kinds[x]] += ends[x] - starts[x]
            last = max(last, ends[x])
            if kinds[x] == COMPRESSED:
                allocated[v, path.STORED] += stored[x]
        reach[v] = last


@njit(cache=True, nogil=True)
def _voids(trees, low, high, reach):
    """By layer: where it ends, if something of a layer below it lies behind that and so is hidden; else -1.

    `reach[v]`: the last byte held by `v`, then by `v` or below.
    """
    start = np.full(high - low, -1, np.int64)
    for v in range(low, high):
        parent = trees.parent[v]
        if parent >= 0:
            if reach[parent] > trees.size[v]:
                start[v - low] = trees.size[v]
            reach[v] = max(reach[v], min(reach[parent], trees.size[v]))
    return start


class Tree(NamedTuple):
    """What one tree needs, besides the room that all share."""

    at: Any  # see Places
    stored: Any  # see Extents
    top: Any  # int64, by word: the uppermost node that shows something, -1 if there is none
    way: Any  # int64, see path.py
    loot: Any  # int64, see path.py


@njit(cache=True, nogil=True)
def _enter(k, filled, room, tree, place, heads, record, leaf, used, length):
    """Lay the entries of a layer on the path from entry `k` on, but for a leaf's, which nothing can hide.

    Returns the entry before which the log was full, or `filled`, and the log's new length.
    """
    entries, nodes, squeezed = bare_rows(room.entries, 4), bare_rows(room.nodes, 8), bare_rows(room.squeezed, 3)
    counts, log = bare_rows(room.counts, 64), bare_rows(room.log, 2)
    way, loot = bare_rows(tree.way, 4), bare_rows(tree.loot, 5)
    at, stored, top = bare(tree.at), bare(tree.stored), bare(tree.top)
    while k < filled and length + 64 <= log.shape[0]:
        if k + 2 * AHEAD < filled:
            soon(top, entries[k + 2 * AHEAD, WORD])
        if k + AHEAD < filled:
            word = entries[k + AHEAD, WORD]
            soon(at, (word << WORD_BITS) + lowest(np.uint64(entries[k + AHEAD, MASK])))
            if top[word] >= 0:
                soon(nodes, top[word] << 3)
        word, mask, begin = entries[k, WORD], np.uint64(entries[k, MASK]), length
        length = path.steal(word, mask, heads, record, at, stored, nodes, squeezed, counts, top, way, loot, log, length)
        if not leaf:
            path.push(word, mask, entries[k, KIND], entries[k, EXTENT], place, nodes, squeezed, top, used + k, begin)
        k += 1
    return k, length


@njit(cache=True, nogil=True)
def _climb(room, tree, layers, v, filled, height, used, length):
    """Set layer `v` on top of the path, with its entries; the room and the log's new length."""
    heads, record, leaf, begin = layers.heads[v], layers.want_steals[v], layers.last[v] == v, length
    tree.way[height, path.LAYER], tree.way[height, path.BEGIN], tree.way[height, path.HEADS] = v, used, heads
    tree.way[height, path.COUNTS] = layers.want_visible[v] and not layers.is_head[v]
    done = 0
    while done < filled:
        room = path.with_log(room, length)
        done, length = _enter(done, filled, room, tree, height, heads, record, leaf, used, length)
    return room, _give_back(begin, room, tree.top, length) if leaf else length


@njit(cache=True, nogil=True)
def _give_back(begin, room, top, length):
    """Undo the steals from `begin` on; the log's new length."""
    nodes, squeezed, log = bare_rows(room.nodes, 8), bare_rows(room.squeezed, 3), bare_rows(room.log, 2)
    return path.give_back(begin, nodes, squeezed, bare(top), log, length)


@njit(cache=True, nogil=True)
def _leave(begin, used, room, top, length):
    """Take the nodes from `begin` on off the path; the log's new length."""
    nodes, squeezed, log = bare_rows(room.nodes, 8), bare_rows(room.squeezed, 3), bare_rows(room.log, 2)
    top = bare(top)
    for e in range(used - 1, begin - 1, -1):
        length = path.undo(e, nodes, squeezed, top, log, length)
    return length


@njit(cache=True, nogil=True)
def _descend(room, tree, layers, v, hidden, height, used, length):
    """Take the layers off the path that `v` does not stand on; what is left (see `_work_tree`)."""
    while height and layers.last[tree.way[height - 1, path.LAYER]] < v:
        height -= 1
        begin, owner = tree.way[height, path.BEGIN], tree.way[height, path.LAYER]
        if tree.way[height, path.COUNTS]:
            heads, nodes, squeezed, counts = layers.heads[owner], room.nodes, room.squeezed, room.counts
            path.add_hidden(begin, used, heads, owner, hidden, tree.at, tree.stored, nodes, squeezed, counts)
        length = _leave(begin, used, room, tree.top, length)
        used = begin
    return height, used, length


@njit(cache=True, nogil=True)
def _note(steals, count, v, height, way, loot):
    """Add what layer `v` took from those below it to the steals; how many there are now."""
    for place in range(height):
        if loot[place, path.TAKEN]:
            steals[0, count], steals[1, count] = v, way[place, path.LAYER]
            for kind in range(_KINDS):
                steals[2 + kind, count] = loot[place, kind]
                loot[place, kind] = 0
            loot[place, path.TAKEN] = 0
            count += 1
    return count


@njit(cache=True, nogil=True)
def _with_steals(steals, count, wanted):
    if count + wanted <= steals.shape[1]:
        return steals
    wider = np.empty((steals.shape[0], 2 * (count + wanted)), np.int64)
    wider[:, :count] = steals[:, :count]
    return wider


@njit(cache=True, nogil=True)
def _work_tree(low, high, layers, extents, voids, hidden, room, steals, count):
    """One tree that has extents. The path has `height` layers with `used` nodes, and a log of `length` steals."""
    wanted, want_steals, last, limits = layers.wanted, layers.want_steals, layers.last, voids[voids >= 0]
    places = number_places(extents, extents.first[low], extents.first[high], limits)
    top, way = np.full(places.at.size >> WORD_BITS, -1, np.int64), np.empty((high - low, 4), np.int64)
    tree = Tree(places.at, extents.stored, top, way, np.zeros((high - low, 5), np.int64))
    height, used, length = 0, np.int64(0), np.int64(0)
    for v in range(low, high):
        if not wanted[v]:
            continue
        height, used, length = _descend(room, tree, layers, v, hidden, height, used, length)
        room, filled = entries_of(room, extents, v, voids[v - low], places, top)
        if filled == 0:
            continue
        room = path.with_nodes(room, used, filled)
        room, length = _climb(room, tree, layers, v, filled, height, used, length)
        if want_steals[v]:
            steals = _with_steals(steals, count, height)
            count = _note(steals, count, v, height, way, tree.loot)
        if last[v] != v:
            used, height = used + filled, height + 1
    _descend(room, tree, layers, high, hidden, height, used, length)
    return room, steals, count


@njit(cache=True, nogil=True)
def work_trees(trees, begin, end, layers, extents, allocated, hidden):
    """The trees `begin` to `end`: adds to `allocated` and `hidden` (from all heads), by layer and kind; their steals.

    These are columns (upper, lower, bytes hidden of each kind): uppers in preorder, each one's lowers from the root up.
    """
    reach, room = np.zeros(trees.parent.size, np.int64), path.new_room(_FIRST_NODES)
    extents_here = extents.first[trees.first[end]] - extents.first[trees.first[begin]]
    steals, count = np.empty((2 + _KINDS, extents_here // _EXTENTS_PER_STEAL), np.int64), np.int64(0)
    for t in range(begin, end):
        low, high = trees.first[t], trees.first[t + 1]
        if extents.first[low] < extents.first[high]:
            _sum_extents(extents, low, high, allocated, reach)
            voids = _voids(trees, low, high, reach)
            room, steals, count = _work_tree(low, high, layers, extents, voids, hidden, room, steals, count)
    return steals[:, :count]
