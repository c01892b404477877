"""The steal matrix while it grows: a hash table from (upper, lower, kind) to bytes, in two arrays."""

import numpy as np
from numba import njit

STORED = 3  # kind code of the stored bytes of hidden compressed clusters, after DATA, ZERO and COMPRESSED
_LOWER_BITS, _KIND_BITS = 31, 2


@njit(cache=True, nogil=True)
def new_table(slots):
    """An empty table; `slots` is a power of two."""
    return np.zeros(slots, np.uint64), np.zeros(slots, np.int64)


@njit(cache=True, nogil=True)
def pair_key(upper, lower, kind):
    """Never 0, which marks a free slot: nothing steals from itself."""
    high = np.uint64(upper) << np.uint64(_LOWER_BITS + _KIND_BITS)
    return high | (np.uint64(lower) << np.uint64(_KIND_BITS)) | np.uint64(kind)


@njit(cache=True, nogil=True)
def add(keys, values, key, value):
    """Add to a pair; 1 if it is new."""
    mask = np.uint64(keys.size - 1)
    slot = ((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & mask
    while True:
        found = keys[slot]
        if found == key:
            values[slot] += value
            return 0
        if found == 0:
            keys[slot] = key
            values[slot] = value
            return 1
        slot = (slot + np.uint64(1)) & mask


@njit(cache=True, nogil=True)
def grown(keys, values):
    """The same pairs in a table of twice the size."""
    wider_keys, wider_values = new_table(keys.size * 2)
    for slot in range(keys.size):
        if keys[slot]:
            add(wider_keys, wider_values, keys[slot], values[slot])
    return wider_keys, wider_values


@njit(cache=True, nogil=True)
def packed(keys, values):
    """The pairs without the free slots, in no order."""
    count = 0
    for slot in range(keys.size):
        count += keys[slot] != 0
    kept_keys, kept_values = np.empty(count, np.uint64), np.empty(count, np.int64)
    at = 0
    for slot in range(keys.size):
        if keys[slot]:
            kept_keys[at] = keys[slot]
            kept_values[at] = values[slot]
            at += 1
    return kept_keys, kept_values


def unpack(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(upper, lower, kind) of packed keys."""
    upper = (keys >> np.uint64(_LOWER_BITS + _KIND_BITS)).astype(np.int64)
    lower = ((keys >> np.uint64(_KIND_BITS)) & np.uint64((1 << _LOWER_BITS) - 1)).astype(np.int64)
    return upper, lower, (keys & np.uint64(3)).astype(np.int8)
