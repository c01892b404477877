"""Which byte ranges to ask for, and the bytes that came."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.chain import qcow2_reasons as why
from tasks.chain.extent import I64
from tasks.errors import Refused
from tasks.units import KIB, MIB

# The first read. Header, tables and L2 of a small layer are in it, so that most layers cost one request; it is also
# the slice of the regional caches.
FIRST_READ_BYTES = 2 * MIB
# Two L2 tables with at most this much between them are read as one range. QEMU puts tables and data in one row of
# clusters, so a gap is a multiple of the cluster size: with 64 KiB clusters or larger no byte too many is read, with
# small clusters a request less is worth more than the bytes (a request costs a store about as much as 100 KiB).
GAP_BYTES = 32 * KIB
# Longer ranges are cut: several requests in parallel are faster than one, and each is held in memory whole.
MAX_REQUEST_BYTES = 8 * MIB
# L2 tables that are asked for, held and decoded together. Bounds the memory of a layer of any size.
GROUP_BYTES = 8 * MIB


Block = bytes | memoryview  # what a fetch gives; memoryview: of plain bytes


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`[start, start + length)` of the object."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.start + self.length


def join_places(places: Sequence[tuple[int, int]]) -> list[ByteRange]:
    """Requests for disjoint (start, length) in ascending order: adjacent ones joined, long ones cut."""
    runs: list[tuple[int, int]] = []
    for start, length in places:
        if runs and sum(runs[-1]) == start:
            runs[-1] = (runs[-1][0], runs[-1][1] + length)
        else:
            runs.append((start, length))
    return [part for start, length in runs for part in cut(start, length)]


def cut(start: int, length: int) -> list[ByteRange]:
    """One range as requests of bounded size."""
    return [
        ByteRange(at, min(MAX_REQUEST_BYTES, start + length - at))
        for at in range(start, start + length, MAX_REQUEST_BYTES)
    ]


def coalesce_tables(offsets: I64, size: int) -> list[ByteRange]:
    """Requests that cover tables of `size` bytes at `offsets` (aligned to `size`, any order); none cuts a table."""
    if not len(offsets):
        return []
    at = np.unique(offsets)
    fresh = np.concatenate(([True], at[1:] - at[:-1] - size > GAP_BYTES))
    run_start = at[np.flatnonzero(fresh)][np.cumsum(fresh) - 1]
    piece = (at - run_start) // MAX_REQUEST_BYTES
    fresh[1:] |= piece[1:] != piece[:-1]
    first = np.flatnonzero(fresh)
    last = np.append(first[1:], len(at)) - 1
    return [ByteRange(int(a), int(b) + size - int(a)) for a, b in zip(at[first], at[last], strict=True)]


class Blocks:
    """Bytes that were fed, by their place in the object."""

    def __init__(self, ranges: Sequence[ByteRange], data: Sequence[Block]) -> None:
        if len(ranges) != len(data):
            raise ValueError(f"{len(ranges)} ranges were asked for, {len(data)} came")
        pairs = sorted(zip(ranges, data, strict=True), key=lambda pair: pair[0].start)
        for wanted, block in pairs:
            if len(block) != wanted.length:
                raise Refused(why.SHORT_READ, f"[{wanted.start}, {wanted.end}): {len(block)} of {wanted.length} bytes")
        self._starts = np.array([wanted.start for wanted, _ in pairs], dtype=np.int64)
        self._blocks = [block for _, block in pairs]

    @property
    def first(self) -> Block:
        """The lowest block as it came."""
        return self._blocks[0] if self._blocks else b""

    def read(self, start: int, length: int) -> bytes | None:
        """A copy of the bytes, joined from adjacent blocks; None if they are not all here."""
        parts: list[Block] = []
        at, end = start, start + length
        index = int(np.searchsorted(self._starts, start, side="right")) - 1
        while at < end and 0 <= index < len(self._blocks):
            offset = at - int(self._starts[index])
            part = self._blocks[index][offset : offset + end - at]
            if not part:
                break
            parts.append(part)
            at, index = at + len(part), index + 1
            if index < len(self._blocks) and int(self._starts[index]) != at:
                break
        return b"".join(parts) if at >= end else None

    def tables(self, offsets: I64, size: int, into: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Copy the tables at `offsets` (aligned to `size`) into rows of `into`; which of them were here."""
        owner = np.searchsorted(self._starts, offsets, side="right") - 1
        found = np.zeros(len(offsets), np.bool_)
        for index in np.unique(owner[owner >= 0]):
            block, base = self._blocks[index], int(self._starts[index])
            whole = len(block) // size
            row = (offsets - base) // size
            here = (owner == index) & (row < whole)
            if base % size == 0 and whole:
                view = np.frombuffer(block, np.uint8, whole * size).reshape(whole, size)
                into[here] = view[row[here]]
                found |= here
        return found
