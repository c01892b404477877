"""Number the places of a tree's guest addresses at which an extent begins or ends, so that what lies between is a bit.

The stretch from one place to the next is a piece. All layers of the tree either hold a piece completely or not at all,
so 64 pieces in a row are one word, of which an extent is a mask: the more layers overlap, the finer the words are, and
an address that no layer touches costs nothing, however large the disk is.

Most places are multiples of 64 KiB (a unit): one bit each in their block of 64. The others ("odd": small clusters,
sub-clusters, ends of disks) lie sorted beside them.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

BLOCK_BITS, UNIT_BITS = 22, 16
UNIT = 1 << UNIT_BITS
FULL = np.uint64(0xFFFFFFFFFFFFFFFF)
DATA, ZERO, COMPRESSED, VOID = 0, 1, 2, 3
WORD_BITS = 6  # pieces per word
_DENSE = (4096, 32, 1 << 22)  # blocks have their number as their row up to this many, and per extent, and in all


class Extents(NamedTuple):
    """Arrays over the extents of a bucket; those of layer `v` are `first[v]` to `first[v + 1]`, cut at its size."""

    first: Any  # int64
    start: Any  # int64, guest byte
    end: Any  # int64
    kind: Any  # int8: DATA, ZERO or COMPRESSED
    stored: Any  # int64, host bytes; used for compressed ones only


class Places(NamedTuple):
    """The places of one tree, in ascending order."""

    at: Any  # int64, guest byte; one more for the end of each word that is begun
    blocks: Any  # int64, ascending: the blocks that have a row; empty when every block has the row of its number
    rows: Any  # int64, by block: a bit per unit at which a place lies; number of the first place << 32 | first odd one
    odd: Any  # int64, guest byte, ascending


_UNITS, _FIRST = range(2)
_ODD = np.int64((1 << 32) - 1)


@njit(cache=True, nogil=True)
def popcount(x):
    """Number of set bits."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True, nogil=True)
def lowest(x):
    """Number of zeros below the lowest set bit; 64 if there is none."""
    return popcount(~x & (x - np.uint64(1)))


@njit(cache=True, nogil=True)
def weight(mask, word, at):
    """Bytes of the pieces of a word that a mask names."""
    base, total = word << WORD_BITS, np.int64(0)
    while mask:
        low = lowest(mask)
        high = low + lowest(~(mask >> np.uint64(low)))
        total += at[base + high] - at[base + low]
        mask &= mask + (np.uint64(1) << np.uint64(low))  # without its lowest run of ones
    return total


@njit(inline="always")
def row_of(blocks, block):
    """The row of a block that has one."""
    return np.searchsorted(blocks, block) if blocks.size else block


@njit(inline="always")
def number_of(place, blocks, rows, odd):
    """The number of a place."""
    row = row_of(blocks, place >> BLOCK_BITS)
    unit = np.uint64((place >> UNIT_BITS) & 63)
    before = np.uint64(rows[row, _UNITS]) & ~(FULL << unit)
    numbers = rows[row, _FIRST]
    found = (numbers >> 32) + popcount(before)
    low, high = numbers & _ODD, rows[row + 1, _FIRST] & _ODD
    if low == high:
        return found
    if place & (UNIT - 1):
        found += (rows[row, _UNITS] >> np.int64(unit)) & 1
    begin = low
    while low < high:
        middle = (low + high) >> 1
        if odd[middle] < place:
            low = middle + 1
        else:
            high = middle
    return found + low - begin


@njit(cache=True, nogil=True)
def _blocks(starts, ends, limits, last):
    """The blocks in which a place lies, in ascending order, or none if all have a row; the number of rows."""
    count = (last >> BLOCK_BITS) + 1
    if count <= min(_DENSE[0] + _DENSE[1] * ends.size, _DENSE[2]):
        return np.empty(0, np.int64), count
    blocks = np.unique(np.concatenate((starts, ends, limits)) >> BLOCK_BITS)
    return blocks, blocks.size


@njit(cache=True, nogil=True)
def _marked(places, blocks, rows, odd, odd_count):
    """Note where places lie; how many odd ones there are."""
    for place in places:
        if place & (UNIT - 1) == 0:
            rows[row_of(blocks, place >> BLOCK_BITS), _UNITS] |= np.int64(1) << ((place >> UNIT_BITS) & 63)
        elif odd_count == 0 or odd[odd_count - 1] != place:
            odd[odd_count] = place
            odd_count += 1
    return odd_count


@njit(cache=True, nogil=True)
def _numbered(blocks, rows, odd, most):
    """Give all places their numbers, `most` at most; where each lies."""
    at, seen, o = np.empty(most + 65, np.int64), 0, 0
    for row in range(rows.shape[0]):
        block = blocks[row] if row < blocks.size else row
        rows[row, _FIRST] = seen << 32 | o
        left = np.uint64(rows[row, _UNITS])
        inside = o < odd.size and odd[o] >> BLOCK_BITS == block
        while left or inside:
            unit = lowest(left)
            place = (block << BLOCK_BITS) + (unit << UNIT_BITS)
            if inside and (left == 0 or odd[o] < place):
                at[seen] = odd[o]
                o += 1
                inside = o < odd.size and odd[o] >> BLOCK_BITS == block
            else:
                at[seen] = place
                left &= left - np.uint64(1)
            seen += 1
    at[seen : seen + 65] = at[seen - 1]
    return at[: seen + 65]


@njit(cache=True, nogil=True)
def number_places(extents, low, high, limits):
    """The places of the extents `low` to `high` (at least one); `limits` are the sizes at which shrunk layers end."""
    starts, ends = extents.start[low:high], extents.end[low:high]
    last = ends.max()
    limits = limits[limits <= last]
    blocks, count = _blocks(starts, ends, limits, last)
    rows, most = np.zeros((count + 1, 2), np.int64), 2 * ends.size + limits.size
    odd = np.empty(most, np.int64)
    found = _marked(starts, blocks, rows, odd, 0)
    found = _marked(ends, blocks, rows, odd, found)
    found = _marked(limits, blocks, rows, odd, found)
    odd = np.unique(odd[:found])
    return Places(_numbered(blocks, rows, odd, most), blocks, rows, odd)
