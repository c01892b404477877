"""Which bytes of each layer a merge must have, besides metadata. Engines fetch by it, the planner predicts by it."""

from collections.abc import Sequence

import numpy as np

from tasks.chain.extent import Extents, Ranges, allocated, ranges_of, select, subtract, union
from tasks.chain.fetches import align, clip
from tasks.chain.layer import ExtentKind
from tasks.chain.visible import NOBODY, LayerView, Visible, resolve

_STORED = (ExtentKind.DATA, ExtentKind.COMPRESSED)


def pieces_of(view: Visible, owner: int) -> Extents:
    """The pieces that one layer decides, as extents."""
    mask = view.owner == owner
    return Extents(view.start[mask], view.length[mask], view.kind[mask], view.host_offset[mask], view.host_length[mask])


def host_ranges(extents: Extents) -> Ranges:
    """Where the bytes of data and compressed clusters are in the object."""
    stored = extents[np.isin(extents.kind, _STORED)]
    return ranges_of(stored.host_offset, stored.host_offset + stored.host_length)


def moved(run: Sequence[LayerView], cluster_size: int) -> Ranges:
    """Guest ranges that the lower layers of a run decide for its top: what a merge carries over, zeros included.

    Whole clusters of the top, for it is the top that gets them.
    """
    view = resolve(run)
    lower = view.where((view.owner != NOBODY) & (view.owner != 0)).ranges()
    grown = clip(align(lower, cluster_size), run[0].virtual_size)
    return subtract(grown, allocated(run[0].extents))


def stream_needs(run: Sequence[LayerView]) -> list[Ranges]:
    """Host ranges per layer of the run: the surviving clusters. Nothing of the top, which is only added to."""
    view = resolve(run)
    return [host_ranges(pieces_of(view, number)) if number else _nothing() for number in range(len(run))]


def rebase_needs(run: Sequence[LayerView], under: Sequence[LayerView], cluster_size: int) -> list[Ranges]:
    """Host ranges per layer of run and under: what the guest sees in the affected clusters, before and after.

    Rebase compares the old backing with the new one; where they differ it writes, and a write into a part of a cluster
    reads the rest of the cluster through the old chain, even where the cluster goes on behind the top's end.
    """
    size = -(-run[0].virtual_size // cluster_size) * cluster_size
    view = resolve(run)
    lower = view.where((view.owner != NOBODY) & (view.owner != 0)).ranges()
    affected = align(lower, cluster_size)
    before = _visible_in([*run[1:], *under], affected, size)
    after = _visible_in(under, affected, size)
    nothing = [_nothing()] * (len(run) - 1)
    return [_nothing(), *(union(a, b) for a, b in zip(before, [*nothing, *after], strict=True))]


def _visible_in(layers: Sequence[LayerView], ranges: Ranges, size: int) -> list[Ranges]:
    if not layers:
        return []
    view = resolve(layers, size)
    return [host_ranges(select(pieces_of(view, number), ranges)) for number in range(len(layers))]


def _nothing() -> Ranges:
    empty = np.empty(0, np.int64)
    return ranges_of(empty, empty)
