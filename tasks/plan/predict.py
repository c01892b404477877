"""What one merge will really move, from the extents of its layers: by the functions that the engines fetch and send by.

Bytes are counted as the engines' meter counts them: fetched from a store (metadata, what survives, what a sent part
holds besides, the result read back), sent to it, copied by it. Where tables lie is guessed (`tasks.plan.metadata`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks.chain import fetches, needs, parts
from tasks.chain.compose_layout import Layout, Rewritten, lay_out, lay_out_again, packed_ranges
from tasks.chain.compose_pieces import Source
from tasks.chain.extent import Extents, Ranges, allocated, concat, ranges_of, subtract, union
from tasks.chain.layer import ExtentKind
from tasks.chain.qcow2_layout import KNOWN_HEADER_BYTES
from tasks.chain.visible import NOBODY, LayerView, resolve
from tasks.plan.cost import ACTION_REQUESTS, Tally
from tasks.plan.inputs import LayerInput, Prices
from tasks.plan.metadata import HEADER_BYTES, Places, places_of
from tasks.plan.policy import Policy
from tasks.plan.steps import Cost
from tasks.units import KIB

SAMPLE_BYTES = 4 * KIB  # compared at each end of a copied part (tasks.execute.upload)
_STORED = (ExtentKind.DATA, ExtentKind.COMPRESSED)


@dataclass(frozen=True, slots=True, eq=False)
class Fetched:
    """What of a layer's object an engine holds, and what that took."""

    held: Ranges
    bytes: int
    requests: int

    def more(self, ranges: Ranges, size: int) -> "Fetched":
        """And what of the ranges is missing, as `tasks.execute.replica` fetches it."""
        missing = subtract(fetches.clip(ranges, size), self.held)
        wanted = fetches.clip(fetches.coalesce(missing), size)
        requests = self.requests + len(fetches.requests(wanted))
        return Fetched(union(self.held, wanted), self.bytes + wanted.total_bytes, requests)


_NOTHING = Fetched(ranges_of(np.empty(0, np.int64), np.empty(0, np.int64)), 0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Detail:
    """A layer with its extents, where its metadata is, and what opening it takes: the same for every engine."""

    layer: LayerInput
    extents: Extents
    places: Places
    opened: Fetched

    @property
    def view(self) -> LayerView:
        """For `resolve`."""
        return LayerView(self.extents, self.layer.virtual_size)


def detail(layer: LayerInput, extents: Extents) -> Detail:
    """Look at a layer."""
    places, size = places_of(layer, extents), layer.size_bytes
    opened = _NOTHING.more(_range(0, places.first), size).more(places.fixed, size).more(places.ranges(), size)
    lost = min(places.lost_bytes, size - opened.bytes)
    return Detail(layer, extents, places, replace(opened, bytes=opened.bytes + lost))


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """One run in full. `under`: base and below; their extents may be empty where the engine does not read them."""

    run: tuple[Detail, ...]
    under: tuple[Detail, ...]
    above: tuple[Detail, ...]
    home: str


def predict(engine: str, merge: Merge, prices: Prices, policy: Policy) -> Cost:
    """The effort of one engine on one run. Refused, with the hazard's name, if the extents show one."""
    if engine not in ("rebase", "stream", "compose"):
        raise ValueError(f"no prediction for engine {engine!r}")
    tally = Tally(requests=ACTION_REQUESTS + len(merge.above) + len(merge.run) + len(merge.under))
    if engine == "rebase":
        _into_top(tally, merge, prices, policy, _rebase_needs(merge))
    elif engine == "compose":
        _compose(tally, merge, prices, policy)
    else:
        _into_top(tally, merge, prices, policy, needs.stream_needs([item.view for item in merge.run]))
        if merge.under:
            tally.fetch(merge.under[0].layer.region, KNOWN_HEADER_BYTES, 1)  # the base's size
    for item in merge.above:
        _new_header(tally, item, merge.home, prices)
    return tally.cost(merge.home, prices)


def _rebase_needs(merge: Merge) -> list[Ranges]:
    under = [item.view for item in merge.under]
    return needs.rebase_needs([item.view for item in merge.run], under, merge.run[0].layer.cluster_size)


def _into_top(tally: Tally, merge: Merge, prices: Prices, policy: Policy, wanted: list[Ranges]) -> None:
    """Rebase and stream: survivors are fetched and written into a replica of the top, which is then laid out anew.

    `wanted`: of the run and of as many layers under it as the engine reads.
    """
    growth = grow(merge)
    top, *others = (*merge.run, *merge.under)[: len(wanted)]
    for item, ranges in zip(others, wanted[1:], strict=True):
        _hold(tally, item, item.opened.more(ranges, item.layer.size_bytes))
    held = top.opened.more(top.places.refcounts, top.layer.size_bytes)
    if top.layer.extended_l2:
        _hold(tally, top, _send_parts(tally, top, held, growth, merge.home, prices, compared=True))
    else:
        view, copyable = LayerView(growth.extents, top.layer.virtual_size), prices.copies(top.layer.region, merge.home)
        image = Rewritten(view, growth.size, top.layer.size_bytes, _range(0, 0), copyable)
        layout = lay_out_again(image, top.layer.cluster_bits, policy.max_garbage_share)
        _hold(tally, top, held.more(packed_ranges(layout, 0), top.layer.size_bytes))
        _assembled(tally, layout, [top.layer.region] * 2, merge.home)
    tally.temp += growth.appended


def _hold(tally: Tally, item: Detail, held: Fetched) -> None:
    tally.fetch(item.layer.region, held.bytes, held.requests)
    tally.temp += held.bytes


def _compose(tally: Tally, merge: Merge, prices: Prices, policy: Policy) -> None:
    """A new front is built and sent; what lies behind it is copied by the store. Of the sources' metadata only headers
    are read: the extents go with the plan."""
    sources = [
        Source(item.view, item.layer.size_bytes, prices.copies(item.layer.region, merge.home)) for item in merge.run
    ]
    bits, has_base = merge.run[0].layer.cluster_bits, bool(merge.under)
    layout = lay_out(sources, bits, has_base=has_base, max_dead_share=policy.max_garbage_share)
    for number, item in enumerate(merge.run):
        size = item.layer.size_bytes
        header = _NOTHING.more(_range(0, max(HEADER_BYTES, item.layer.cluster_size)), size)
        _hold(tally, item, header.more(packed_ranges(layout, number), size))
    _assembled(tally, layout, [item.layer.region for item in merge.run], merge.home)


def _assembled(tally: Tally, layout: Layout, regions: Sequence[str], home: str) -> None:
    """The front is sent, the rest copied out of the sources' regions, the metadata read back."""
    bits = layout.cluster_bits
    front = parts.cut([parts.PartPlan(copy=False, start=0, length=layout.front_bytes)], layout.total_bytes)
    tally.send(home, layout.front_bytes, len(front) + 2)
    tally.temp += layout.front_bytes
    for segment in layout.segments:
        whole = parts.PartPlan(copy=True, start=segment.start << bits, length=(segment.end - segment.start) << bits)
        plans = parts.cut([whole], layout.total_bytes)
        _copied(tally, regions[segment.source], home, plans, compared=True)
    tally.fetch(home, _read_back(layout), 2)


def _read_back(layout: Layout) -> int:
    """What our reader asks of a composed object: the first read, refcount table, L1 and L2."""
    tables, bits = layout.tables, layout.cluster_bits
    places = [
        (0, max(HEADER_BYTES, 1 << bits)),
        (tables.reftable << bits, (tables.reftable + tables.reftable_clusters) << bits),
        (tables.l1 << bits, (tables.l1 << bits) + tables.l1_entries * 8),
        (tables.l2 << bits, tables.end << bits),
    ]
    return fetches.clip(union(*(_range(start, end) for start, end in places)), layout.total_bytes).total_bytes


def _copied(tally: Tally, source: str, home: str, plans: Sequence[parts.PartPlan], *, compared: bool) -> None:
    """Parts that the store copies; of the merged layer's, both ends are compared with the source."""
    copies = [plan for plan in plans if plan.copy]
    tally.copied(source, parts.copied_bytes(copies), len(copies))
    for plan in copies if compared else ():
        ends = {0, max(0, plan.length - SAMPLE_BYTES)}
        count = sum(min(SAMPLE_BYTES, plan.length - inside) for inside in ends)
        tally.fetch(source, count, len(ends))
        tally.fetch(home, count, len(ends))


def _send_parts(
    tally: Tally, top: Detail, held: Fetched, growth: "Growth", home: str, prices: Prices, *, compared: bool
) -> Fetched:
    """The new object: parts of the old one that the store copies, and parts that are sent. What is held then."""
    old = top.layer.size_bytes if prices.copies(top.layer.region, home) else 0
    plans = parts.plan_parts(growth.size, growth.changed, old)
    for plan in plans:
        if not plan.copy:
            held = held.more(_range(plan.start, plan.start + plan.length), top.layer.size_bytes)
    tally.send(home, parts.sent_bytes(plans), sum(not plan.copy for plan in plans) + 2)
    _copied(tally, top.layer.region, home, plans, compared=compared)
    fixed = union(top.places.fixed, _range(0, top.places.first)).total_bytes
    tally.fetch(home, min(growth.size, fixed + growth.table_bytes), 2)  # the result is read back
    return held


@dataclass(frozen=True, slots=True, eq=False)
class Growth:
    """What merging into the top does to its file."""

    extents: Extents  # of QEMU's result: the top's, and one for each stretch that is new
    size: int  # of QEMU's result
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
    fresh = subtract(_clusters(stored, cluster), allocated(top.extents))
    data = fresh.total_bytes
    touched = _table_numbers(moved, places.guest_bytes)
    new_tables = [index for index in touched if index not in places.tables]
    end = -(-top.layer.size_bytes // cluster) * cluster
    blocks = _new_refblocks(top.layer, end, data + len(new_tables) * cluster)
    appended = data + (len(new_tables) + blocks) * cluster
    changed = [_range(0, _fixed_bytes(top.layer) if data or new_tables else cluster)]
    changed += [_range(at, at + cluster) for at in (places.tables.get(index, -1) for index in touched) if at >= 0]
    tables = (len(places.tables) + len(new_tables)) * cluster
    size = end + appended if appended else top.layer.size_bytes
    return Growth(_grown(top.extents, fresh, subtract(moved, fresh), end), size, appended, union(*changed), tables)


def _grown(top: Extents, data: Ranges, zeros: Ranges, end: int) -> Extents:
    """The top's extents with new data behind the object's end, and new zeros."""
    length, none = data.end - data.start, np.zeros(len(zeros), np.int64)
    fresh = Extents(
        data.start, length, np.full(len(data), ExtentKind.DATA, np.int8), end + np.cumsum(length) - length, length
    )
    blank = Extents(zeros.start, zeros.end - zeros.start, np.full(len(zeros), ExtentKind.ZERO, np.int8), none - 1, none)
    every = concat([top, fresh, blank])
    return every[np.argsort(every.start, kind="stable")]


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
    size = item.layer.size_bytes
    header = _range(0, min(item.layer.cluster_size, size))
    tables = len(item.places.tables) * item.layer.cluster_size
    held = _send_parts(
        tally, item, item.opened, Growth(item.extents, size, 0, header, tables), home, prices, compared=False
    )
    tally.fetch(item.layer.region, held.bytes, held.requests)
    tally.temp = max(tally.temp, held.bytes)


def _range(start: int, end: int) -> Ranges:
    return ranges_of(np.array([start], np.int64), np.array([end], np.int64))
