"""Which layer decides each guest range of a run of layers. Pure.

top     ..DD......ZZ..        D data, Z zero, . unallocated
middle  .DDDD.|               | the middle layer ends here: shorter than the top
bottom  DDDDDDDDDDDDDD
->      bmttmbzzzzttzz        b, m, t: owner; z: zero, because the middle layer ends before
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.chain.extent import I64, Extents, Ranges, ranges_of
from tasks.chain.layer import ExtentKind

NOBODY = -1  # owner of a range that no layer of the run decides


@dataclass(frozen=True, slots=True)
class LayerView:
    """A layer's extents and its virtual size in bytes."""

    extents: Extents
    virtual_size: int


@dataclass(frozen=True, slots=True)
class Visible:
    """The guest view of a run, one row per piece; pieces are sorted, disjoint and cover `[0, size)`.

    `owner` is an index into the run (0 = top) or NOBODY. For data `host_offset` is that of the piece's first byte, and
    `host_length` may be short at an object's end (what is missing reads as zero); for a compressed piece both are the
    compressed cluster's, whose guest range begins at `extent_start`.
    """

    start: I64
    length: I64
    owner: npt.NDArray[np.int32]
    kind: npt.NDArray[np.int8]
    host_offset: I64
    host_length: I64
    extent_start: I64

    def where(self, mask: npt.NDArray[np.bool_]) -> "Visible":
        """The pieces that the mask names."""
        return Visible(
            self.start[mask],
            self.length[mask],
            self.owner[mask],
            self.kind[mask],
            self.host_offset[mask],
            self.host_length[mask],
            self.extent_start[mask],
        )

    def ranges(self) -> Ranges:
        """Guest ranges, touching ones joined."""
        return ranges_of(self.start, self.start + self.length)


def resolve(run: Sequence[LayerView], size: int | None = None) -> Visible:
    """The guest view of a run, top first, `size` bytes long (default: the top's virtual size)."""
    end = run[0].virtual_size if size is None else size
    points = _breakpoints(run, end)
    count = len(points) - 1
    owner = np.full(count, NOBODY, dtype=np.int32)
    kind = np.full(count, ExtentKind.ZERO, dtype=np.int8)
    host = np.full(count, -1, dtype=np.int64)
    stored = np.zeros(count, dtype=np.int64)
    begin = points[:-1].copy()
    for number, layer in enumerate(run):
        pending = np.flatnonzero(owner == NOBODY)
        at = points[pending]
        beyond = at >= layer.virtual_size
        owner[pending[beyond]] = number  # a shorter layer hides what is below its end (hazard 1)
        rows, hit = _find(layer.extents, at)
        hit &= ~beyond
        target, rows = pending[hit], rows[hit]
        owner[target] = number
        kind[target] = layer.extents.kind[rows]
        begin[target] = layer.extents.start[rows]
        plain = (kind[target] == ExtentKind.DATA) | (kind[target] == ExtentKind.ZERO_ALLOCATED)
        shift = np.where(plain, points[target] - begin[target], 0)
        host[target] = np.where(kind[target] == ExtentKind.ZERO, -1, layer.extents.host_offset[rows] + shift)
        left = layer.extents.host_length[rows] - shift
        stored[target] = np.where(plain, np.clip(left, 0, points[target + 1] - points[target]), left)
    return Visible(points[:-1], np.diff(points), owner, kind, host, stored, begin)


def _breakpoints(run: Sequence[LayerView], end: int) -> I64:
    parts = [np.array([0, end], dtype=np.int64)]
    for layer in run:
        parts += [layer.extents.start, layer.extents.start + layer.extents.length]
        parts.append(np.array([layer.virtual_size], dtype=np.int64))
    points = np.unique(np.concatenate(parts))
    return points[(points >= 0) & (points <= end)]


def _find(extents: Extents, at: I64) -> tuple[I64, npt.NDArray[np.bool_]]:
    """For each point the row of the extent that holds it, and whether there is one."""
    if not len(extents.start):
        return np.zeros(len(at), dtype=np.int64), np.zeros(len(at), dtype=bool)
    rows = np.searchsorted(extents.start, at, side="right") - 1
    safe = np.maximum(rows, 0)
    return safe, (rows >= 0) & (at < extents.start[safe] + extents.length[safe])
