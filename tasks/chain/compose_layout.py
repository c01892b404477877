"""Lay out a merged qcow2 without QEMU: metadata and packed pieces in front, copied ranges of the sources behind. Pure.

    | header | refcount table | refcount blocks | L1 | L2 … | packed data | packed compressed | copy | copy | …

The front is sent by the worker (a header cannot be copied: it names another backing file); everything behind it is
copied by the store. Dead clusters inside copied ranges get refcount 0: they are no leaks, QEMU reuses them. Compressed
clusters keep their bytes; they move by whole clusters or keep their place inside a sector.

Coordinates: `guest` and `host` are cluster numbers where the name says so, bytes elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tasks.chain.compose_pieces import Pieces, Source, check_ends, copyable_clusters, pieces_of, touching, zero_clusters
from tasks.chain.compose_segments import Segment, choose_segments
from tasks.chain.extent import I64, Ranges, ranges_of
from tasks.chain.parts import MIN_PART_BYTES
from tasks.chain.qcow2_layout import SECTOR
from tasks.chain.visible import LayerView, resolve

PART_PRICE_BYTES = 256 << 10  # fetching less than this is cheaper than one more part to copy
MAX_SEGMENTS = 7000  # of 10,000 parts: `parts.cut` makes at most 2,500 more of long ones
REFCOUNT_BYTES = 2


@dataclass(frozen=True, slots=True, eq=False)
class Rewritten:
    """An image that QEMU wrote to, in a local file of `file_bytes`; before, it was an object of `old_bytes`."""

    view: LayerView  # as it is now
    file_bytes: int
    old_bytes: int
    changed: Ranges  # where the file differs from the object
    copyable: bool  # may the result's store copy ranges of the object?


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


def packed_ranges(layout: Layout, number: int) -> Ranges:
    """What must be fetched of a source: its pieces that go to the front."""
    mine = layout.packed & (layout.pieces.source == number)
    host = layout.pieces.host[mine]
    return ranges_of(host, host + layout.pieces.length[mine])


def lay_out(sources: Sequence[Source], cluster_bits: int, *, has_base: bool, max_dead_share: float) -> Layout:
    """The best layout whose dead bytes are at most `max_dead_share` of the result.

    Refused (`short_parent`) when a layer ends inside a cluster that the layers above it do not decide.
    """
    cluster_size, size = 1 << cluster_bits, sources[0].view.virtual_size
    view = resolve([source.view for source in sources])
    check_ends(view, cluster_size)
    pieces = pieces_of(view, sources, cluster_size)
    zero = zero_clusters(view, cluster_size) if has_base else np.empty(0, np.int64)
    candidates = [copyable_clusters(pieces, number, source, cluster_bits) for number, source in enumerate(sources)]
    return _best(pieces, zero, candidates, size, cluster_bits, max_dead_share)


def _best(
    pieces: Pieces, zero: I64, candidates: Sequence[I64], size: int, cluster_bits: int, max_dead_share: float
) -> Layout:
    """`candidates`: per source the live clusters that may be copied."""
    cluster_size = 1 << cluster_bits
    least = -(-MIN_PART_BYTES // cluster_size)
    packed = _place(pieces, zero, [], size, cluster_bits)  # what it would be without any copy: no dead bytes
    budget = int(max_dead_share / max(1e-9, 1 - max_dead_share) * (packed.total_bytes >> cluster_bits))
    segments = choose_segments(list(candidates), least, budget, PART_PRICE_BYTES >> cluster_bits)
    segments = sorted(segments, key=lambda s: -s.live)[:MAX_SEGMENTS]
    while segments:
        made = _place(pieces, zero, segments, size, cluster_bits)
        if made.front_bytes >= MIN_PART_BYTES:
            return made
        segments = _feed_front(segments, candidates, -(-(MIN_PART_BYTES - made.front_bytes) // cluster_size), least)
    return packed


def lay_out_again(image: Rewritten, cluster_bits: int, max_dead_share: float) -> Layout:
    """A layout for an image that QEMU wrote to: source 0 is the object as it was, source 1 what is new or changed.

    A cluster that was changed even in part belongs to source 1.
    """
    seen = resolve([image.view])
    pieces = pieces_of(seen, [Source(image.view, image.file_bytes, image.copyable)], 1 << cluster_bits)
    end = np.iinfo(np.int64).max
    fresh = ranges_of(np.append(image.changed.start, image.old_bytes), np.append(image.changed.end, end))
    pieces = replace(pieces, source=touching(pieces, fresh, 1 << cluster_bits).astype(np.int64))
    zero = zero_clusters(seen, 1 << cluster_bits)
    old = Source(image.view, image.old_bytes, image.copyable)
    candidates = [copyable_clusters(pieces, 0, old, cluster_bits), np.empty(0, np.int64)]
    return _best(pieces, zero, candidates, image.view.virtual_size, cluster_bits, max_dead_share)


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
