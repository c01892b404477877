"""Extents as columns, and their algebra. All offsets and lengths are bytes in int64 arrays.

A set of extents is sorted by `start` and does not overlap. Guest ranges without an extent are unallocated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.chain.layer import ExtentKind

I64 = npt.NDArray[np.int64]
I8 = npt.NDArray[np.int8]
COLUMNS = ("start", "length", "kind", "host_offset", "host_length")


@dataclass(frozen=True, slots=True, eq=False)
class Extents:
    """Equally long columns, as in `tasks.inventory.schema.EXTENTS`.

    `host_offset` is -1 and `host_length` 0 for plain zeros. For data, `host_length` is `length`, except at the
    object's end: a last cluster may be stored short (down to nothing for a sub-cluster), and what is missing reads as
    zero. For compressed extents (one per cluster) it is the stored length, rounded up to a sector as the format has it.
    """

    start: I64
    length: I64
    kind: I8
    host_offset: I64
    host_length: I64

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, index: Any) -> "Extents":
        """Rows by slice, mask or index array."""
        return Extents(*(getattr(self, name)[index] for name in COLUMNS))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Extents) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in COLUMNS
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def end(self) -> I64:
        """Guest offset after each extent."""
        return self.start + self.length

    def guest_bytes(self, *kinds: ExtentKind) -> int:
        """Guest bytes of the given kinds (all if none is given)."""
        return int(self.length[np.isin(self.kind, kinds)].sum() if kinds else self.length.sum())

    def stored_bytes(self) -> int:
        """Host bytes of data and compressed clusters."""
        return int(self.host_length[(self.kind == ExtentKind.DATA) | (self.kind == ExtentKind.COMPRESSED)].sum())

    def rows(self) -> Iterator[tuple[int, int, int, int, int]]:
        """One tuple per extent, in the order of COLUMNS."""
        return zip(*(getattr(self, name).tolist() for name in COLUMNS), strict=True)


def empty() -> Extents:
    """No extents."""
    return from_rows([])


def from_rows(rows: Sequence[tuple[int, int, int, int, int]]) -> Extents:
    """The inverse of `Extents.rows`."""
    table = np.array(rows, dtype=np.int64).reshape(-1, len(COLUMNS))
    return Extents(table[:, 0], table[:, 1], table[:, 2].astype(np.int8), table[:, 3], table[:, 4])


def concat(parts: Sequence[Extents]) -> Extents:
    """One after the other, as they are (see `coalesce`)."""
    if not parts:
        return empty()
    return Extents(*(np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS))


def coalesce(extents: Extents) -> Extents:
    """Join neighbours of one kind that are contiguous on both sides. Compressed extents stay one per cluster.

    guest  |--A--|--B--|   |--C--|        |-----A-----|   |--C--|
    host   0     4     8   20        ->   0           8   20
    """
    if len(extents) < 2:
        return extents
    first = np.flatnonzero(np.concatenate(([True], ~_joinable(extents))))
    return Extents(
        extents.start[first],
        np.add.reduceat(extents.length, first),
        extents.kind[first],
        extents.host_offset[first],
        np.add.reduceat(extents.host_length, first),
    )


def _joinable(extents: Extents) -> npt.NDArray[np.bool_]:
    """Element i: may extents i and i + 1 be joined?"""
    kind, host = extents.kind, extents.host_offset
    same = (kind[1:] == kind[:-1]) & (extents.start[1:] == extents.end[:-1]) & (kind[1:] != ExtentKind.COMPRESSED)
    return np.asarray(same & ((kind[1:] == ExtentKind.ZERO) | (host[1:] == host[:-1] + extents.length[:-1])))


def clip(extents: Extents, start: int, end: int) -> Extents:
    """The part inside `[start, end)`. Compressed extents that are cut keep their host range: it is needed whole."""
    if len(extents) and start <= int(extents.start[0]) and int(extents.start[-1] + extents.length[-1]) <= end:
        return extents
    return select(extents, ranges_of(np.array([start], np.int64), np.array([end], np.int64)))


@dataclass(frozen=True, slots=True)
class Ranges:
    """Sorted, disjoint, non-empty ranges `[start, end)`."""

    start: I64
    end: I64

    def __len__(self) -> int:
        return len(self.start)

    @property
    def total_bytes(self) -> int:
        """Sum of the lengths."""
        return int((self.end - self.start).sum())

    def cover(self, start: int, end: int) -> bool:
        """Is every byte of `[start, end)` in one range? Where touching ranges are joined: is it in the set?"""
        index = int(np.searchsorted(self.start, start, side="right")) - 1
        return start >= end or (index >= 0 and end <= int(self.end[index]))

    def pairs(self) -> list[tuple[int, int]]:
        """As (start, end) tuples."""
        return list(zip(self.start.tolist(), self.end.tolist(), strict=True))


def ranges_of(start: I64, end: I64) -> Ranges:
    """Ranges from any intervals: sorted, joined where they touch or overlap, empty ones dropped."""
    full = end > start
    start, end = start[full], end[full]
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order]) if len(end) else end
    if len(start) < 2:
        return Ranges(start, reach)
    fresh = np.concatenate(([True], start[1:] > reach[:-1]))
    last = np.concatenate((np.flatnonzero(fresh)[1:] - 1, [len(start) - 1]))
    return Ranges(start[fresh], reach[last])


def allocated(extents: Extents) -> Ranges:
    """Guest ranges that the layer decides itself, zeros included."""
    return ranges_of(extents.start, extents.end)


def union(*sets: Ranges) -> Ranges:
    """Ranges in any of the sets."""
    if not sets:
        return ranges_of(np.empty(0, np.int64), np.empty(0, np.int64))
    return ranges_of(np.concatenate([s.start for s in sets]), np.concatenate([s.end for s in sets]))


def intersect(left: Ranges, right: Ranges) -> Ranges:
    """Ranges in both."""
    return subtract(left, subtract(left, right))


def subtract(left: Ranges, right: Ranges) -> Ranges:
    """Ranges of `left` that are not in `right`.

    left   |-------------|      |----|
    right      |--|         |----|
           |---|  |------|        |--|
    """
    if not len(left) or not len(right):
        return left
    points = np.concatenate((left.start, left.end, right.start, right.end))
    deltas = np.concatenate(
        (np.ones(len(left)), -np.ones(len(left)), -2 * np.ones(len(right)), 2 * np.ones(len(right)))
    )
    cuts, where = np.unique(points, return_inverse=True)
    # 1 = in left only; 0 = in neither; -1 = in both; -2 = in right only
    level = np.cumsum(np.bincount(where, weights=deltas, minlength=len(cuts)))
    inside = np.flatnonzero(level[:-1] == 1)
    return ranges_of(cuts[inside], cuts[inside + 1])


def select(extents: Extents, ranges: Ranges) -> Extents:
    """The parts of the extents that lie in the ranges. Compressed extents keep their whole host range."""
    if not len(ranges) or not len(extents):
        return empty()
    first = np.searchsorted(extents.end, ranges.start, side="right")
    last = np.searchsorted(extents.start, ranges.end, side="left")
    count = np.maximum(last - first, 0)
    owner = np.repeat(np.arange(len(ranges)), count)
    index = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    part = extents[index]
    new_start = np.maximum(part.start, ranges.start[owner])
    new_length = np.minimum(part.end, ranges.end[owner]) - new_start
    moved = new_start - part.start
    keep = (part.kind == ExtentKind.COMPRESSED) | (part.kind == ExtentKind.ZERO)
    return Extents(
        new_start,
        new_length,
        part.kind,
        np.where(keep, part.host_offset, part.host_offset + moved),
        np.where(keep, part.host_length, np.clip(part.host_length - moved, 0, new_length)),
    )
