"""What a layer holds, word by word: entries of pieces of one kind.

Arrays go from function to function one by one: see bare.py.
"""

import numpy as np
from numba import njit

from tasks.analytics.shadow.bare import bare, bare_rows, soon
from tasks.analytics.shadow.path import with_entries
from tasks.analytics.shadow.places import BLOCK_BITS, COMPRESSED, DATA, FULL, VOID, WORD_BITS, ZERO, number_of

AHEAD = 6  # what an extent or an entry needs from memory is asked for so many before
WORD, MASK, KIND, EXTENT = range(4)  # columns of `entries`


@njit(inline="always")
def _span(word, first, last):
    """The bits of the pieces `first` up to `last` (not included) that lie in a word."""
    low, high = max(first - (word << WORD_BITS), 0), min(last - (word << WORD_BITS), 64)
    return (FULL >> np.uint64(64 - (high - low))) << np.uint64(low)


@njit(inline="always")
def _put(entries, filled, word, mask, kind, extent):
    entries[filled, WORD], entries[filled, MASK] = word, np.int64(mask)
    entries[filled, KIND], entries[filled, EXTENT] = kind, extent
    return filled + 1


@njit(cache=True, nogil=True)
def _void_entries(entries, first, top):
    """The words behind a layer's end in which something shows; their number, or less than -1 for too little room."""
    filled = 0
    for word in range(first >> WORD_BITS, top.size):
        if top[word] >= 0:
            if filled == entries.shape[0]:
                return -top.size
            filled = _put(entries, filled, word, _span(word, first, (word + 1) << WORD_BITS), VOID, -1)
    return filled


@njit(inline="always")
def _flush(entries, filled, word, data, zero):
    if data:
        filled = _put(entries, filled, word, data, DATA, -1)
    if zero:
        filled = _put(entries, filled, word, zero, ZERO, -1)
    return filled


@njit(cache=True, nogil=True)
def _entries(entries, filled, starts, ends, kinds, begin, stop, blocks, rows, odd):
    """What a layer holds, word by word: neighbours of one kind are one entry, but for compressed clusters.

    Returns their number with those that were there, or how many there would have to be room for, as a negative number.
    """
    entries, starts, ends, kinds = bare_rows(entries, 4), bare(starts), bare(ends), bare(kinds)
    blocks, rows, odd = bare(blocks), bare_rows(rows, 2), bare(odd)
    current, data, zero = np.int64(-1), np.uint64(0), np.uint64(0)
    for x in range(begin, stop):
        if blocks.size == 0 and x + AHEAD < stop:
            soon(rows, starts[x + AHEAD] >> BLOCK_BITS << 1)
        first, last = number_of(starts[x], blocks, rows, odd), number_of(ends[x], blocks, rows, odd)
        word, end, kind = first >> WORD_BITS, (last - 1) >> WORD_BITS, np.int64(kinds[x])
        if filled + 2 * (end - word + 2) > entries.shape[0]:
            return -(filled + 2 * (end - word + 2))
        while word <= end:
            mask = _span(word, first, last)
            if kind == COMPRESSED:
                filled = _put(entries, filled, word, mask, kind, x)
            else:
                if word != current:
                    filled = _flush(entries, filled, current, data, zero)
                    current, data, zero = word, np.uint64(0), np.uint64(0)
                if kind == DATA:
                    data |= mask
                else:
                    zero |= mask
            word += 1
    return _flush(entries, filled, current, data, zero)


@njit(cache=True, nogil=True)
def entries_of(room, extents, v, void, places, top):
    """What layer `v` holds and what its end hides, in `entries`; their number."""
    starts, ends, kinds, begin, stop = extents.start, extents.end, extents.kind, extents.first[v], extents.first[v + 1]
    blocks, rows, odd = places.blocks, places.rows, places.odd
    while True:
        filled = _void_entries(room.entries, number_of(void, blocks, rows, odd), top) if void >= 0 else 0
        if filled >= 0:
            filled = _entries(room.entries, filled, starts, ends, kinds, begin, stop, blocks, rows, odd)
        if filled >= 0:
            return room, filled
        room = with_entries(room, -filled)
