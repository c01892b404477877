"""Work all trees of a bucket: sums per layer, and the steal matrix."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tasks.analytics.shadow.cells import work_cells
from tasks.analytics.shadow.intervals import make_entries, make_grid
from tasks.analytics.shadow.pairs import new_table, packed
from tasks.analytics.shadow.words import Voids, work_words

_FIRST_SLOTS = 1024


class Trees(NamedTuple):
    """Trees of a bucket: layers `first[t]` to `first[t + 1]`; `size[v]` is a layer's virtual size, in bytes."""

    first: Any  # int32
    parent: Any  # int32, by layer
    size: Any  # int64, by layer; layers that could not be read have one that cuts nothing


@njit(cache=True, nogil=True)
def _voids(trees, low, high, reach):
    """Layers that end before something of a layer below them does. `reach[v]`: the last byte held by `v` or below."""
    layer, start = np.empty(high - low, np.int32), np.empty(high - low, np.int64)
    count = 0
    for v in range(low, high):
        parent = trees.parent[v]
        if parent >= 0:
            if reach[parent] > trees.size[v]:
                layer[count], start[count] = v, trees.size[v]
                count += 1
            reach[v] = max(reach[v], min(reach[parent], trees.size[v]))
    return Voids(layer[:count], start[:count])


@njit(cache=True, nogil=True)
def _sum_extents(extents, low, high, allocated, reach):
    for v in range(low, high):
        for x in range(extents.first[v], extents.first[v + 1]):
            kind = extents.kind[x]
            allocated[v, kind] += extents.end[x] - extents.start[x]
            reach[v] = max(reach[v], extents.end[x])
            if kind == 2:
                allocated[v, 3] += extents.stored[x]


@njit(cache=True, nogil=True)
def work_tree(trees, t, layers, extents, allocated, visible, reach):
    """One tree; its steal pairs as (keys, bytes). Adds to the rows of `allocated` and `visible`, by kind."""
    low, high = trees.first[t], trees.first[t + 1]
    _sum_extents(extents, low, high, allocated, reach)
    voids = _voids(trees, low, high, reach)
    keys, values = new_table(_FIRST_SLOTS)
    if extents.first[high] == extents.first[low]:
        return packed(keys, values)
    grid = make_grid(extents, extents.first[low], extents.first[high], voids.start)
    entries = make_entries(extents, low, high, grid)
    keys, values, used = work_words(grid, entries, layers, voids, extents.stored, visible, keys, values, 0)
    keys, values, used = work_cells(grid, entries, layers, voids, extents, visible, keys, values, used)
    return packed(keys, values)


@njit(cache=True, nogil=True)
def work_trees(trees, begin, end, layers, extents, allocated, visible):
    """The trees `begin` to `end`; all their steal pairs as (keys, bytes)."""
    reach = np.zeros(trees.parent.size, np.int64)
    keys, values, count = np.empty(_FIRST_SLOTS, np.uint64), np.empty(_FIRST_SLOTS, np.int64), 0
    for t in range(begin, end):
        more_keys, more_values = work_tree(trees, t, layers, extents, allocated, visible, reach)
        if count + more_keys.size > keys.size:
            room = 2 * (count + more_keys.size)
            wider_keys, wider_values = np.empty(room, np.uint64), np.empty(room, np.int64)
            wider_keys[:count], wider_values[:count] = keys[:count], values[:count]
            keys, values = wider_keys, wider_values
        keys[count : count + more_keys.size] = more_keys
        values[count : count + more_keys.size] = more_values
        count += more_keys.size
    return keys[:count], values[:count]
