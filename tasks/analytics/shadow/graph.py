"""Compiled walks over a forest given as an array of parents (-1 = a root)."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def children_of(parent):
    """Children in compressed rows: those of `v` are `child[first[v]:first[v + 1]]`."""
    count = parent.size
    first = np.zeros(count + 1, np.int64)
    for v in range(count):
        if parent[v] >= 0:
            first[parent[v] + 1] += 1
    for v in range(count):
        first[v + 1] += first[v]
    child = np.empty(first[count], np.int32)
    free = first[:-1].copy()
    for v in range(count):
        p = parent[v]
        if p >= 0:
            child[free[p]] = v
            free[p] += 1
    return first, child


@njit(cache=True, nogil=True)
def preorder(parent):
    """Vertices that reach a root, each before its children, each subtree in one stretch. Cycles are left out."""
    first, child = children_of(parent)
    order = np.empty(parent.size, np.int32)
    stack = np.empty(parent.size + 1, np.int32)
    done = 0
    for root in range(parent.size):
        if parent[root] >= 0:
            continue
        stack[0], height = root, 1
        while height:
            height -= 1
            v = stack[height]
            order[done] = v
            done += 1
            for k in range(first[v + 1] - 1, first[v] - 1, -1):
                stack[height] = child[k]
                height += 1
    return order[:done]


@njit(cache=True, nogil=True)
def subtree_sums(order, parent, own):
    """For each vertex the sum of `own` over its subtree; `order` is a preorder."""
    total = own.copy()
    for k in range(order.size - 1, -1, -1):
        v = order[k]
        if parent[v] >= 0:
            total[parent[v]] += total[v]
    return total


@njit(cache=True, nogil=True)
def path_sums(parent, own):
    """For each vertex the sum of `own` from its root to it, of a forest that is numbered in preorder."""
    total = own.copy()
    for v in range(parent.size):
        if parent[v] >= 0:
            total[v] += total[parent[v]]
    return total


@njit(cache=True, nogil=True)
def subtree_ends(parent):
    """The last vertex of each subtree, of a forest that is numbered in preorder."""
    last = np.arange(parent.size).astype(np.int32)
    for v in range(parent.size - 1, -1, -1):
        p = parent[v]
        if p >= 0 and last[v] > last[p]:
            last[p] = last[v]
    return last


@njit(cache=True, nogil=True)
def mixed(value):
    """Scatter 64 bits (splitmix64)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True)
def path_keys(order, parent, content):
    """Content of each vertex and all below it, as one key."""
    key = np.zeros(parent.size, np.uint64)
    for v in order:
        below = key[parent[v]] if parent[v] >= 0 else np.uint64(0x9E3779B97F4A7C15)
        key[v] = mixed(below + content[v])
    return key


@njit(cache=True, nogil=True)
def cone_keys(order, parent, content, is_head, live):
    """Content of each vertex and all that lies between it and the nearest heads above it, as one key.

    A head shows everything below it afresh, so nothing above the nearest heads can change what is visible.
    """
    above = np.zeros(parent.size, np.uint64)
    key = np.zeros(parent.size, np.uint64)
    for k in range(order.size - 1, -1, -1):
        v = order[k]
        if is_head[v]:
            above[v] = np.uint64(1)
        key[v] = mixed(content[v] + mixed(above[v] + np.uint64(0x632BE59BD9B4E019)))
        if parent[v] >= 0 and live[v]:
            above[parent[v]] += mixed(key[v])
    return key


@njit(cache=True, nogil=True)
def doubtful(order, parent, readable, is_head, live):
    """Vertices with an unreadable one between them and the nearest heads above."""
    doubt = np.zeros(parent.size, np.bool_)
    for k in range(order.size - 1, -1, -1):
        v = order[k]
        if is_head[v]:
            doubt[v] = False
        if parent[v] >= 0 and live[v] and (doubt[v] or not readable[v]):
            doubt[parent[v]] = True
    return doubt


@njit(cache=True, nogil=True)
def needed(order, parent, is_head, live, stale_visible, stale_steals):
    """Vertices to load: stale ones, what is above them up to the nearest heads, what is below down to the root."""
    wanted = stale_visible | stale_steals
    inside = np.zeros(parent.size, np.bool_)  # in the cone of a vertex whose visible bytes are stale
    for v in order:
        p = parent[v]
        if live[v] and p >= 0 and not is_head[p] and (inside[p] or stale_visible[p]):
            inside[v] = True
            wanted[v] = True
    below = stale_steals.copy()
    for k in range(order.size - 1, -1, -1):
        v = order[k]
        if below[v]:
            wanted[v] = True
            if parent[v] >= 0:
                below[parent[v]] = True
    return wanted


@njit(cache=True, nogil=True)
def depths(order, parent):
    """Layers of each vertex's chain, itself included, and the chain's root."""
    depth, root = np.zeros(parent.size, np.int32), np.full(parent.size, -1, np.int32)
    for v in order:
        p = parent[v]
        depth[v] = depth[p] + 1 if p >= 0 else 1
        root[v] = root[p] if p >= 0 else v
    return depth, root


@njit(cache=True, nogil=True)
def runs(order, parent, is_head, live):
    """The top of each live vertex's run and its position from there (0 = top).

    A run starts at a head, at a fork (of live branches) and goes down to the next.
    """
    branches, only = np.zeros(parent.size, np.int32), np.full(parent.size, -1, np.int32)
    top, position = np.full(parent.size, -1, np.int32), np.zeros(parent.size, np.int32)
    for k in range(order.size - 1, -1, -1):
        v = order[k]
        if not live[v]:
            continue
        top[v] = v
        if not is_head[v] and branches[v] == 1:
            top[v], position[v] = top[only[v]], position[only[v]] + 1
        if parent[v] >= 0:
            branches[parent[v]] += 1
            only[parent[v]] = v
    return top, position
