"""Lay out a merged qcow2 without QEMU: metadata and packed pieces in front, copied ranges of the sources behind. Pure.

    | header | refcount table | refcount blocks | L1 | L2 … | packed data | packed compressed | copy | copy | …

The front is sent by the worker (a header cannot be copied: it names another backing file); everything behind it is
copied by the store. Dead clusters inside copied ranges get refcount 0: they are no leaks, QEMU reuses them. Compressed
clusters keep their bytes; they move by whole clusters or keep their place inside a sector.

Coordinates: `guest` and `host` are cluster numbers where the name says so, bytes elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.chain.compose_segments import Segment, choose_segments
from tasks.chain.extent import I64
from tasks.chain.layer import ExtentKind
from tasks.chain.parts import MIN_PART_BYTES
from tasks.chain.qcow2_layout import SECTOR
from tasks.chain.visible import NOBODY, LayerView, Visible, resolve
from tasks.errors import Refused

PART_PRICE_BYTES = 256 << 10  # fetching less than this is cheaper than one more part to copy
MAX_SEGMENTS = 8000  # of S3's 10,000 parts: the rest is for the front and for cutting long segments
REFCOUNT_BYTES = 2


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


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where everything goes. Offsets in bytes of the result."""

    cluster_bits: int
    virtual_size: int
    tables: "Tables"
    pieces: Pieces
    target: I64  # per piece: host offset in the result
    packed: npt.NDArray[np.bool_]  # per piece: in the front (fetched), not in a copied range
    zero_guest: I64  # guest clusters that read as zero
    segments: tuple[Segment, ...]
    segment_at: tuple[int, ...]  # where each copied range begins
    front_bytes: int
    total_bytes: int
    dead_bytes: int  # inside copied ranges

    @property
    def cluster_size(self) -> int:
        """Bytes of one cluster."""
        return 1 << self.cluster_bits


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Places of the metadata, in clusters of the result."""

    reftable: int
    reftable_clusters: int
    refblocks: int
    refblock_clusters: int
    l1: int
    l1_entries: int
    l2: int
    l2_used: I64  # L1 indexes that have a table, in order
    end: int


def lay_out(sources: Sequence[Source], cluster_bits: int, *, has_base: bool, max_dead_share: float) -> Layout:
    """The best layout whose dead bytes are at most `max_dead_share` of the result.

    Refused (`short_parent`) when a layer ends inside a cluster that the layers above it do not decide.
    """
    cluster_size, size = 1 << cluster_bits, sources[0].view.virtual_size
    view = resolve([source.view for source in sources])
    _check_ends(view, cluster_size)
    pieces = _pieces(view, sources, cluster_size)
    zero = _clusters_of(view, _is_zero(view), cluster_size)[0] if has_base else np.empty(0, np.int64)
    candidates = [_copyable_clusters(pieces, number, source, cluster_bits) for number, source in enumerate(sources)]
    least = -(-MIN_PART_BYTES // cluster_size)
    packed = _place(pieces, zero, [], size, cluster_bits)  # what it would be without any copy: no dead bytes
    budget = int(max_dead_share / max(1e-9, 1 - max_dead_share) * (packed.total_bytes >> cluster_bits))
    segments = choose_segments(candidates, least, budget, PART_PRICE_BYTES >> cluster_bits)
    segments = sorted(segments, key=lambda s: -s.live)[:MAX_SEGMENTS]
    while segments:
        made = _place(pieces, zero, segments, size, cluster_bits)
        if made.front_bytes >= MIN_PART_BYTES:
            return made
        segments = _feed_front(segments, candidates, -(-(MIN_PART_BYTES - made.front_bytes) // cluster_size), least)
    return packed


def _check_ends(view: Visible, cluster_size: int) -> None:
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


def _pieces(view: Visible, sources: Sequence[Source], cluster_size: int) -> Pieces:
    stored = (view.kind == ExtentKind.DATA) | (view.kind == ExtentKind.COMPRESSED)
    guest, row = _clusters_of(view, stored & (view.owner != NOBODY), cluster_size)
    compressed = view.kind[row] == ExtentKind.COMPRESSED
    owner = view.owner[row].astype(np.int64)
    host = view.host_offset[row] + np.where(compressed, 0, guest * cluster_size - view.start[row])
    ends = np.array([source.object_bytes for source in sources], np.int64)
    length = np.where(compressed, view.host_length[row], np.clip(ends[owner] - host, 0, cluster_size))
    return Pieces(guest, owner, host, length, compressed)


def _copyable_clusters(pieces: Pieces, number: int, source: Source, cluster_bits: int) -> I64:
    """Live host clusters of a source that lie in its object whole."""
    if not source.copyable or source.object_bytes < MIN_PART_BYTES:
        return np.empty(0, np.int64)
    mine = pieces.source == number
    first = pieces.host[mine] >> cluster_bits
    last = (pieces.host[mine] + np.maximum(pieces.length[mine], 1) - 1) >> cluster_bits
    touched = np.unique(np.concatenate([(first + k)[first + k <= last] for k in range(3)]))
    return touched[touched < source.object_bytes >> cluster_bits]


def _feed_front(segments: list[Segment], candidates: Sequence[I64], need: int, least: int) -> list[Segment]:
    """S3 wants 5 MiB in front: live clusters move there from the start of the largest copied range."""
    largest = max(segments, key=lambda s: s.live)
    rest = [segment for segment in segments if segment is not largest]
    live = candidates[largest.source]
    live = live[(live >= largest.start) & (live < largest.end)]
    if need >= len(live) or largest.end - int(live[need]) < least:
        return rest
    start = int(live[need])
    return [*rest, Segment(largest.source, start, largest.end, len(live) - need)]


def _place(pieces: Pieces, zero: I64, segments: Sequence[Segment], size: int, cluster_bits: int) -> Layout:
    ordered = sorted(segments, key=lambda s: (s.source, s.start))
    where = _segment_of(pieces, ordered, cluster_bits)
    packed = where < 0
    plain, squeezed = packed & ~pieces.compressed, packed & pieces.compressed
    spans = _sector_spans(pieces.host[squeezed], pieces.length[squeezed])
    bodies = int(plain.sum()) + -(-int(spans.sum()) // (1 << cluster_bits))
    copies = sum(segment.end - segment.start for segment in ordered)
    tables = _tables(pieces.guest, zero, size, cluster_bits, bodies + copies)
    front = tables.end + bodies
    starts = np.array([segment.start for segment in ordered], np.int64)
    lengths = np.array([segment.end - segment.start for segment in ordered], np.int64)
    at = front + np.cumsum(lengths) - lengths
    target = np.empty(len(pieces.guest), np.int64)
    target[plain] = (tables.end + np.arange(int(plain.sum()))) << cluster_bits
    place = ((tables.end + int(plain.sum())) << cluster_bits) + np.cumsum(spans) - spans
    target[squeezed] = place + pieces.host[squeezed] % SECTOR
    copied = ~packed
    target[copied] = pieces.host[copied] + ((at - starts)[where[copied]] << cluster_bits)
    return Layout(
        cluster_bits=cluster_bits,
        virtual_size=size,
        tables=tables,
        pieces=pieces,
        target=target,
        packed=packed,
        zero_guest=zero,
        segments=tuple(ordered),
        segment_at=tuple((at << cluster_bits).tolist()),
        front_bytes=front << cluster_bits,
        total_bytes=(front + copies) << cluster_bits,
        dead_bytes=sum(segment.end - segment.start - segment.live for segment in ordered) << cluster_bits,
    )


def _segment_of(pieces: Pieces, segments: Sequence[Segment], cluster_bits: int) -> I64:
    """Index of the segment that holds a piece whole, or -1."""
    if not segments:
        return np.full(len(pieces.guest), -1, np.int64)
    far = np.int64(1 << 40)
    first = pieces.source * far + (pieces.host >> cluster_bits)
    squeezed = pieces.source * far + ((pieces.host + pieces.length - 1) >> cluster_bits)
    last = np.where(pieces.compressed, squeezed, first)
    starts = np.array([s.source * far + s.start for s in segments], np.int64)
    ends = np.array([s.source * far + s.end for s in segments], np.int64)
    index = np.searchsorted(starts, first, side="right") - 1
    inside = (index >= 0) & (last < ends[np.maximum(index, 0)])
    return np.where(inside, index, -1)


def _sector_spans(host: I64, length: I64) -> I64:
    """Bytes of the whole sectors that compressed pieces touch."""
    return -(-(host % SECTOR + length) // SECTOR) * SECTOR


def _tables(guest: I64, zero: I64, size: int, cluster_bits: int, bodies: int) -> Tables:
    """Places of the metadata for a result that has `bodies` clusters besides."""
    cluster_size = 1 << cluster_bits
    per_table = cluster_size // 8
    entries = max(1, -(-size // (per_table * cluster_size)))
    used = np.unique(np.concatenate((guest, zero)) // per_table)
    l1_clusters = -(-entries * 8 // cluster_size)
    refblocks = reftable = 1
    while True:
        end = 1 + reftable + refblocks + l1_clusters + len(used)
        blocks = max(1, -(-(end + bodies) // (cluster_size // REFCOUNT_BYTES)))
        table = max(1, -(-blocks * 8 // cluster_size))
        if (blocks, table) == (refblocks, reftable):
            break
        refblocks, reftable = max(blocks, refblocks), max(table, reftable)
    l1 = 1 + reftable + refblocks
    return Tables(1, reftable, 1 + reftable, refblocks, l1, entries, l1 + l1_clusters, used, end)
