"""The live clusters of a merged image, one row each: where they are now, and which may be copied by a store. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.chain.extent import I64, Ranges
from tasks.chain.layer import ExtentKind
from tasks.chain.parts import MIN_PART_BYTES
from tasks.chain.visible import NOBODY, LayerView, Visible
from tasks.errors import Refused


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A layer of the run. `copyable`: may the result's store copy its ranges itself?"""

    view: LayerView
    object_bytes: int
    copyable: bool


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Live clusters of the result in guest order. Columns of equal length; `host`, `length` in bytes of the source."""

    guest: I64  # cluster number
    source: I64
    host: I64
    length: I64  # stored bytes: less than a cluster for compressed ones, or at an object's end
    compressed: npt.NDArray[np.bool_]


def check_ends(view: Visible, cluster_size: int) -> None:
    """A cluster must be decided by one layer: where a shorter layer ends inside one, this may fail (hazard 1)."""
    inner = np.flatnonzero(view.start % cluster_size)
    before = inner - 1
    zero = _is_zero(view)
    same = (view.owner[inner] == view.owner[before]) & (view.extent_start[inner] == view.extent_start[before])
    wrong = inner[~(same | (zero[inner] & zero[before]) | _both_nobody(view, inner, before))]
    if len(wrong):
        at = int(view.start[wrong[0]])
        raise Refused("short_parent", f"a layer of the run ends at {at}, inside a cluster that it shares with others")


def _is_zero(view: Visible) -> npt.NDArray[np.bool_]:
    zero = (view.kind == ExtentKind.ZERO) | (view.kind == ExtentKind.ZERO_ALLOCATED)
    return np.asarray(zero & (view.owner != NOBODY))


def _both_nobody(view: Visible, left: I64, right: I64) -> npt.NDArray[np.bool_]:
    return np.asarray((view.owner[left] == NOBODY) & (view.owner[right] == NOBODY))


def _clusters_of(view: Visible, mask: npt.NDArray[np.bool_], cluster_size: int) -> tuple[I64, I64]:
    """(cluster number, row) of every cluster that the masked pieces hold; one that is cut in two counts once."""
    rows = np.flatnonzero(mask)
    first = -(-view.start[rows] // cluster_size)
    last = -(-(view.start[rows] + view.length[rows]) // cluster_size)
    count = np.maximum(last - first, 0)
    row = np.repeat(rows, count)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(first, count) + nth, row


def pieces_of(view: Visible, sources: Sequence[Source], cluster_size: int) -> Pieces:
    """What the result stores, cluster by cluster."""
    stored = (view.kind == ExtentKind.DATA) | (view.kind == ExtentKind.COMPRESSED)
    guest, row = _clusters_of(view, stored & (view.owner != NOBODY), cluster_size)
    compressed = view.kind[row] == ExtentKind.COMPRESSED
    owner = view.owner[row].astype(np.int64)
    host = view.host_offset[row] + np.where(compressed, 0, guest * cluster_size - view.start[row])
    ends = np.array([source.object_bytes for source in sources], np.int64)
    length = np.where(compressed, view.host_length[row], np.clip(ends[owner] - host, 0, cluster_size))
    return Pieces(guest, owner, host, length, compressed)


def touching(pieces: Pieces, ranges: Ranges, cluster_size: int) -> npt.NDArray[np.bool_]:
    """Does any cluster that the piece touches have a byte of the ranges?"""
    first = pieces.host // cluster_size * cluster_size
    end = -(-(pieces.host + pieces.length) // cluster_size) * cluster_size
    index = np.searchsorted(ranges.end, first, side="right")
    return np.asarray(ranges.start[np.minimum(index, len(ranges) - 1)] < end)


def copyable_clusters(pieces: Pieces, number: int, source: Source, cluster_bits: int) -> I64:
    """Live host clusters of a source that lie in its object whole."""
    if not source.copyable or source.object_bytes <= MIN_PART_BYTES:
        return np.empty(0, np.int64)
    mine = pieces.source == number
    first = pieces.host[mine] >> cluster_bits
    last = (pieces.host[mine] + np.maximum(pieces.length[mine], 1) - 1) >> cluster_bits
    touched = np.unique(np.concatenate([(first + k)[first + k <= last] for k in range(3)]))
    return touched[touched < source.object_bytes >> cluster_bits]


def zero_clusters(view: Visible, cluster_size: int) -> I64:
    """Guest clusters that a layer makes zero."""
    return _clusters_of(view, _is_zero(view), cluster_size)[0]
