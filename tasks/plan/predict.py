"""What one merge will really move, from the extents of its layers: by the functions that the engines fetch and send by.

Bytes are counted as the engines' meter counts them: fetched from a store (metadata, what survives, what a sent part
holds besides, the result read back), sent to it, copied by it. Where tables lie is guessed (`tasks.plan.metadata`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.chain import fetches, needs, parts
from tasks.chain.extent import Extents, Ranges, allocated, ranges_of, subtract, union
from tasks.chain.layer import ExtentKind
from tasks.chain.visible import NOBODY, LayerView, resolve
from tasks.plan.cost import ACTION_REQUESTS, Tally
from tasks.plan.inputs import LayerInput, Prices
from tasks.plan.metadata import Places, places_of
from tasks.plan.steps import Cost

_STORED = (ExtentKind.DATA, ExtentKind.COMPRESSED)


@dataclass(frozen=True, slots=True, eq=False)
class Detail:
    """A layer with its extents."""

    layer: LayerInput
    extents: Extents

    @property
    def view(self) -> LayerView:
        """For `resolve`."""
        return LayerView(self.extents, self.layer.virtual_size)

    @property
    def places(self) -> Places:
        """Where its metadata is."""
        return places_of(self.layer, self.extents)


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """One run in full. `under`: base and below; their extents may be empty where the engine does not read them."""

    run: tuple[Detail, ...]
    under: tuple[Detail, ...]
    above: tuple[Detail, ...]
    home: str


def predict(engine: str, merge: Merge, prices: Prices) -> Cost:
    """The effort of one engine on one run."""
    tally = Tally(requests=ACTION_REQUESTS + len(merge.above) + len(merge.run) + len(merge.under))
    if engine == "rebase":
        _into_top(tally, merge, prices, _rebase_needs(merge), merge.under)
    else:
        _into_top(tally, merge, prices, needs.stream_needs([item.view for item in merge.run]), ())
    for item in merge.above:
        _new_header(tally, item, merge.home, prices)
    return tally.cost(merge.home, prices)


def _rebase_needs(merge: Merge) -> list[Ranges]:
    under = [item.view for item in merge.under]
    return needs.rebase_needs([item.view for item in merge.run], under, merge.run[0].layer.cluster_size)


def _into_top(tally: Tally, merge: Merge, prices: Prices, wanted: list[Ranges], under: Sequence[Detail]) -> None:
    """Rebase and stream: survivors are fetched and written into a replica of the top."""
    growth = grow(merge)
    top = merge.run[0]
    for item, ranges in zip((*merge.run, *under), wanted, strict=True):
        held = _Held(item)
        held.fetch(ranges)
        if item is top:
            _send_parts(tally, item, held, growth, merge.home, prices)
        tally.fetch(item.layer.region, held.fetched, held.requests)
        tally.temp += held.fetched
    tally.temp += growth.appended


def _send_parts(tally: Tally, top: Detail, held: "_Held", growth: "Growth", home: str, prices: Prices) -> None:
    """The new object: parts of the old one that the store copies, and parts that are sent."""
    old = top.layer.size_bytes if prices.copies(top.layer.region, home) else 0
    plans = parts.plan_parts(growth.size, growth.changed, old)
    for plan in plans:
        if not plan.copy:
            held.fetch(_range(plan.start, min(plan.start + plan.length, top.layer.size_bytes)))
    tally.send(home, parts.sent_bytes(plans), sum(not plan.copy for plan in plans) + 2)
    tally.copied(top.layer.region, parts.copied_bytes(plans), sum(plan.copy for plan in plans))
    tally.fetch(home, min(growth.size, held.first + growth.table_bytes), 2)  # the result is read back


class _Held:
    """The replica that an engine keeps of a layer: what of it was fetched."""

    def __init__(self, item: Detail) -> None:
        places = item.places
        self.first = places.first
        self.size = item.layer.size_bytes
        self.held = ranges_of(np.empty(0, np.int64), np.empty(0, np.int64))
        self.fetched = self.requests = 0
        self.fetch(_range(0, places.first))
        self.fetch(places.ranges())
        self.fetched = min(self.size, self.fetched + places.lost_bytes)

    def fetch(self, ranges: Ranges) -> None:
        """As `tasks.execute.replica` does it."""
        missing = subtract(fetches.clip(ranges, self.size), self.held)
        wanted = fetches.clip(fetches.coalesce(missing), self.size)
        self.fetched += wanted.total_bytes
        self.requests += len(fetches.requests(wanted))
        self.held = union(self.held, wanted)


@dataclass(frozen=True, slots=True, eq=False)
class Growth:
    """What merging into the top does to its file."""

    size: int  # of the new object
    appended: int  # bytes behind the old end
    changed: Ranges  # of the old object: header, refcounts, L1, tables that get entries
    table_bytes: int  # all L2 tables of the result


def grow(merge: Merge) -> Growth:
    """New clusters are appended; the tables and refcounts that name them change in place."""
    top, places = merge.run[0], merge.run[0].places
    cluster = top.layer.cluster_size
    view = resolve([item.view for item in merge.run])
    lower = view.where((view.owner != NOBODY) & (view.owner != 0))
    moved = subtract(_clusters(lower.ranges(), cluster), allocated(top.extents))
    keeps_zeros = top.layer.version >= 3
    stored = lower.where(np.isin(lower.kind, _STORED)).ranges() if keeps_zeros else lower.ranges()
    data = subtract(_clusters(stored, cluster), allocated(top.extents)).total_bytes
    touched = _table_numbers(moved, places.guest_bytes)
    new_tables = [index for index in touched if index not in places.tables]
    end = -(-top.layer.size_bytes // cluster) * cluster
    blocks = _new_refblocks(top.layer, end, data + len(new_tables) * cluster)
    appended = data + (len(new_tables) + blocks) * cluster
    changed = [_range(0, _fixed_bytes(top.layer) if data or new_tables else cluster)]
    changed += [_range(at, at + cluster) for at in (places.tables.get(index, -1) for index in touched) if at >= 0]
    tables = (len(places.tables) + len(new_tables)) * cluster
    return Growth(end + appended if appended else top.layer.size_bytes, appended, union(*changed), tables)


def _fixed_bytes(layer: LayerInput) -> int:
    """Header, refcount table, first refcount block and L1 of an image that QEMU made."""
    return 3 * layer.cluster_size + -(-layer.l1_entries * 8 // layer.cluster_size) * layer.cluster_size


def _new_refblocks(layer: LayerInput, old_end: int, more: int) -> int:
    covers = layer.cluster_size * 8 // layer.refcount_bits * layer.cluster_size  # bytes of file per refcount block
    return -(-(old_end + more) // covers) - -(-old_end // covers)


def _table_numbers(ranges: Ranges, guest: int) -> list[int]:
    return sorted({k for start, end in ranges.pairs() for k in range(start // guest, (end - 1) // guest + 1)})


def _clusters(ranges: Ranges, cluster: int) -> Ranges:
    return fetches.align(ranges, cluster)


def _new_header(tally: Tally, item: Detail, home: str, prices: Prices) -> None:
    """A layer above the run: its first part is fetched and sent with a new header, the store copies the rest."""
    held = _Held(item)
    size = item.layer.size_bytes
    header = _range(0, min(item.layer.cluster_size, size))
    tables = len(item.places.tables) * item.layer.cluster_size
    _send_parts(tally, item, held, Growth(size, 0, header, tables), home, prices)
    tally.fetch(item.layer.region, held.fetched, held.requests)
    tally.temp = max(tally.temp, held.fetched)


def _range(start: int, end: int) -> Ranges:
    return ranges_of(np.array([start], np.int64), np.array([end], np.int64))
