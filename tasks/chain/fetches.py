"""Which byte ranges to ask a store for: aligned, coalesced, cut for parallel requests. Pure.

The planner predicts with the functions that the engines fetch by, so that both count the same bytes. The algebra of
ranges is `tasks.chain.extent`'s.
"""

import numpy as np

from tasks.chain.extent import Ranges, ranges_of
from tasks.units import MIB

WASTE_SHARE = 0.0025  # bytes fetched for nothing, to save requests, as a share of the bytes asked for
MAX_GAP_BYTES = MIB  # never read more than this for nothing at one place
REQUEST_BYTES = 8 * MIB  # of one ranged GET


def align(ranges: Ranges, unit: int) -> Ranges:
    """Grown outward to multiples of `unit`."""
    return ranges_of(ranges.start // unit * unit, -(-ranges.end // unit) * unit)


def clip(ranges: Ranges, end: int) -> Ranges:
    """What lies below `end`."""
    return ranges_of(ranges.start, np.minimum(ranges.end, end))


def coalesce(ranges: Ranges, waste_share: float = WASTE_SHARE, max_gap: int = MAX_GAP_BYTES) -> Ranges:
    """Fewer, larger ranges: the smallest gaps are closed first, within `waste_share` of the bytes asked for.

    |--|  |-|      |--------|   |-|         |-----|      |------------|
    """
    if len(ranges) < 2:
        return ranges
    gaps = ranges.start[1:] - ranges.end[:-1]
    order = np.argsort(gaps, kind="stable")
    sorted_gaps = gaps[order]
    affordable = (np.cumsum(sorted_gaps) <= waste_share * ranges.total_bytes) & (sorted_gaps <= max_gap)
    apart = np.ones(len(gaps), dtype=bool)
    apart[order[affordable]] = False
    return Ranges(ranges.start[np.concatenate(([True], apart))], ranges.end[np.concatenate((apart, [True]))])


def requests(ranges: Ranges, limit: int = REQUEST_BYTES) -> list[tuple[int, int]]:
    """(offset, length) of the requests: no request longer than `limit`."""
    counts = -(-(ranges.end - ranges.start) // limit)
    which = np.repeat(np.arange(len(ranges)), counts)
    nth = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = ranges.start[which] + nth * limit
    lengths = np.minimum(starts + limit, ranges.end[which]) - starts
    return list(zip(starts.tolist(), lengths.tolist(), strict=True))
