"""Which slices of which objects a guest's reads of its disk touch. Pure.

A read walks the chain from the tip down: it looks into the L2 table of every layer until one decides, then reads the
data there. So a table is touched only if some range that it maps is undecided above, and data only where it is visible.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.cache.tables import LayerTables
from tasks.chain.extent import I64, Extents, clip
from tasks.chain.layer import ExtentKind
from tasks.chain.visible import NOBODY, LayerView, Visible, resolve
from tasks.units import SLICE_BYTES

OPEN, TABLE, DATA = 0, 1, 2  # why a slice is wanted; a slice wanted for several reasons has the smallest


@dataclass(frozen=True, slots=True, eq=False)
class ChainLayer:
    """One layer of a chain, tip first in sequences of them."""

    layer_id: str
    region: str
    size_bytes: int
    extents: Extents
    tables: LayerTables

    @property
    def view(self) -> LayerView:
        """For `resolve`."""
        return LayerView(self.extents, self.tables.header.virtual_size)


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """Slices, each once. `layer` indexes the chain; `useful_bytes` is what of the slice is wanted; equally long."""

    layer: npt.NDArray[np.int32]
    number: npt.NDArray[np.int32]
    why: npt.NDArray[np.int8]
    useful_bytes: I64

    def __len__(self) -> int:
        return len(self.layer)

    def pairs(self) -> list[tuple[int, int]]:
        """(layer index, slice number)."""
        return list(zip(self.layer.tolist(), self.number.tolist(), strict=True))


def wanted_slices(chain: Sequence[ChainLayer], window: tuple[int, int] | None = None) -> Wanted:
    """The slices that a full read of the guest's range `window` (default: the disk) touches, opening included."""
    size = chain[0].tables.header.virtual_size
    start, end = window or (0, size)
    run = [LayerView(clip(layer.extents, start, end), layer.view.virtual_size) for layer in chain]
    pieces = resolve(run, min(end, size))
    pieces = pieces.where(pieces.start >= start)
    parts = [_opening(chain)]
    parts += [_tables(index, layer, pieces) for index, layer in enumerate(chain)]
    parts.append(_data(pieces))
    return _joined(parts)


@dataclass(frozen=True, slots=True, eq=False)
class _Ranges:
    layer: I64
    start: I64
    length: I64
    why: int


def _opening(chain: Sequence[ChainLayer]) -> _Ranges:
    rows = [(index, *one) for index, layer in enumerate(chain) for one in layer.tables.open_ranges]
    table = np.array(rows, np.int64).reshape(-1, 3)
    return _Ranges(table[:, 0], table[:, 1], table[:, 2], OPEN)


def _tables(index: int, layer: ChainLayer, pieces: Visible) -> _Ranges:
    """L2 tables of one layer that a walk looks into: nobody above decided, and the layer reaches that far."""
    tables = layer.tables
    covered = tables.header.l2_guest_bytes
    asked = (pieces.owner >= index) | (pieces.owner == NOBODY)
    asked &= pieces.start < tables.header.virtual_size
    entries = len(tables.l2_offsets)
    first = np.minimum(pieces.start[asked] // covered, entries)
    last = np.minimum((pieces.start[asked] + pieces.length[asked] - 1) // covered, entries - 1)
    steps = np.zeros(entries + 1, np.int64)
    np.add.at(steps, first, 1)
    np.add.at(steps, np.maximum(last + 1, first), -1)
    offsets = np.unique(tables.l2_offsets[(np.cumsum(steps[:-1]) > 0) & (tables.l2_offsets > 0)])
    return _Ranges(np.full_like(offsets, index), offsets, np.full_like(offsets, tables.header.cluster_size), TABLE)


def _data(pieces: Visible) -> _Ranges:
    stored = ((pieces.kind == ExtentKind.DATA) | (pieces.kind == ExtentKind.COMPRESSED)) & (pieces.host_length > 0)
    chosen = pieces.where(stored)
    return _Ranges(chosen.owner.astype(np.int64), chosen.host_offset, chosen.host_length, DATA)


def _joined(parts: Sequence[_Ranges]) -> Wanted:
    layer, number, why, useful = (np.concatenate(column) for column in zip(*map(_cut, parts), strict=True))
    order = np.lexsort((why, number, layer))
    layer, number, why, useful = layer[order], number[order], why[order], useful[order]
    if not len(layer):
        return Wanted(layer.astype(np.int32), number.astype(np.int32), why.astype(np.int8), useful)
    fresh = np.concatenate(([True], (layer[1:] != layer[:-1]) | (number[1:] != number[:-1])))
    first = np.flatnonzero(fresh)
    total = np.minimum(np.add.reduceat(useful, first), SLICE_BYTES)
    return Wanted(layer[first].astype(np.int32), number[first].astype(np.int32), why[first].astype(np.int8), total)


def _cut(ranges: _Ranges) -> tuple[I64, I64, I64, I64]:
    """Each range as rows of one slice: layer, slice number, why, bytes inside."""
    keep = ranges.length > 0
    layer, start, length = ranges.layer[keep], ranges.start[keep], ranges.length[keep]
    low, high = start // SLICE_BYTES, (start + length - 1) // SLICE_BYTES
    count = high - low + 1
    row = np.repeat(np.arange(len(start)), count)
    number = low[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    begin = np.maximum(start[row], number * SLICE_BYTES)
    finish = np.minimum(start[row] + length[row], (number + 1) * SLICE_BYTES)
    return layer[row], number, np.full(len(row), ranges.why, np.int64), finish - begin
