"""Buckets of trees of bounded size, and their extents as arrays, fed by DuckDB in Arrow batches."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tasks.analytics.shadow import graph
from tasks.analytics.shadow.passes import Layers, Trees
from tasks.analytics.shadow.places import BLOCK_BITS, COMPRESSED, DATA, ZERO, Extents
from tasks.analytics.shadow.structure import Flags, Ints, Structure
from tasks.chain.layer import ExtentKind
from tasks.errors import Permanent

BATCH_ROWS = 20_000
_GAP = 5_000  # layers in a row group, about
_KINDS = np.zeros(len(ExtentKind), np.int8)
_KINDS[ExtentKind.DATA] = DATA
_KINDS[[ExtentKind.ZERO, ExtentKind.ZERO_ALLOCATED]] = ZERO
_KINDS[ExtentKind.COMPRESSED] = COMPRESSED


@dataclass(slots=True)
class Bucket:
    """Whole trees, or one tree's part between two blocks."""

    members: NDArray[np.int32]  # indices into the structure, preorder
    trees: Trees
    layers: Layers
    low_block: int
    high_block: int | None  # None: to the end


def make_buckets(
    structure: Structure, wanted: Flags, stale_visible: Flags, stale_steals: Flags, rows: int
) -> Iterator["Bucket"]:
    """The wanted part of the forest in buckets of at most about `rows` extents; a larger tree comes alone."""
    members = structure.order[wanted[structure.order]]
    members = members[graph.preorder(_local_parents(structure, members))]  # a wanted layer may stand on unwanted ones
    local_parent = _local_parents(structure, members)
    roots = np.flatnonzero(local_parent < 0)
    ends = np.append(roots[1:], len(members))
    summed = np.concatenate([[0], np.cumsum(structure.extents[members])])
    begin = 0
    while begin < len(roots):
        limit = summed[roots[begin]] + rows
        end = max(begin + 1, int(np.searchsorted(summed[ends], limit, side="right")))
        low, high = roots[begin], ends[end - 1]
        first = np.append(roots[begin:end], high) - low
        local = local_parent[low:high]
        local = np.where(local >= 0, local - low, -1).astype(np.int32)
        yield _bucket(structure, members[low:high], local, first.astype(np.int32), stale_visible, stale_steals)
        begin = end


def _local_parents(structure: Structure, members: NDArray[np.int32]) -> NDArray[np.int32]:
    """Where each member's parent is among the members, -1 if it is not."""
    place = np.full(len(structure.layer_no) + 1, -1, np.int32)  # the last one stands for "no parent"
    place[members] = np.arange(len(members), dtype=np.int32)
    found: NDArray[np.int32] = place[structure.parent[members]]
    return found


def _bucket(
    structure: Structure,
    members: NDArray[np.int32],
    parent: NDArray[np.int32],
    first: NDArray[np.int32],
    stale_visible: Flags,
    stale_steals: Flags,
) -> Bucket:
    is_head = structure.is_head[members]
    order = np.arange(len(members), dtype=np.int32)
    heads = graph.subtree_sums(order, parent, is_head.astype(np.int32))
    steals, visible = stale_steals[members], stale_visible[members]
    wanted = graph.subtree_sums(order, parent, (is_head | steals | visible).astype(np.int32)) > 0
    layers = Layers(graph.subtree_ends(parent), heads, is_head, steals, visible, wanted)
    return Bucket(members, Trees(first, parent, structure.size[members]), layers, 0, None)


def parts(connection: duckdb.DuckDBPyConnection, structure: Structure, bucket: Bucket, rows: int) -> list[Bucket]:
    """The bucket itself, or cut by guest address into parts of about `rows` extents, a quarter of that in any chain."""
    extents = structure.extents[bucket.members]
    longest = int(graph.path_sums(bucket.trees.parent, extents).max(initial=0))
    pieces = max(-(-int(extents.sum()) // rows), -(-4 * longest // rows))
    if pieces <= 1:
        return [bucket]
    connection.register("wanted", pa.table({"layer_no": structure.layer_no[bucket.members].astype(np.int32)}))
    shares = [k / pieces for k in range(1, pieces)]
    cuts = connection.execute(
        f"SELECT quantile_disc(start >> {BLOCK_BITS}, $shares) FROM extents SEMI JOIN wanted USING (layer_no)",  # noqa: S608
        {"shares": shares},
    ).fetchall()  # one row; not fetchone, which leaves the result open
    blocks = [0, *sorted(set(cuts[0][0] or ()) - {0}), None]
    return [Bucket(bucket.members, bucket.trees, bucket.layers, low, high) for low, high in itertools.pairwise(blocks)]


class Buffers:
    """Memory for the extents of one bucket after the other: fresh memory costs more than what is done with it."""

    def __init__(self) -> None:
        self._rows = np.empty((3, 0), np.int64)
        self._kind = np.empty(0, np.int8)

    def arrays(self, total: int) -> tuple[Ints, Ints, NDArray[np.int8], Ints]:
        """Room for the start, end, kind and stored bytes of so many extents. Takes back what was given before."""
        if total > len(self._kind):
            self._rows, self._kind = np.empty((3, total), np.int64), np.empty(total, np.int8)
        return self._rows[0, :total], self._rows[1, :total], self._kind[:total], self._rows[2, :total]


def load_extents(
    connection: duckdb.DuckDBPyConnection, structure: Structure, bucket: Bucket, buffers: Buffers
) -> Extents:
    """The extents of a bucket. Rows of other layers, and whatever lies behind a layer's end, are left out.

    Raises Permanent if `extents` and `layers` do not agree.
    """
    low, high = bucket.low_block << BLOCK_BITS, None if bucket.high_block is None else bucket.high_block << BLOCK_BITS
    members = bucket.members
    partial = bool(bucket.low_block) or high is not None
    count = _counted(connection, structure, bucket, low, high) if partial else structure.extents[members]
    first = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    total = int(first[-1])
    with_stored = bool(structure.compressed[members].any())
    *room, stored = buffers.arrays(total)
    room.append(stored if with_stored else stored[:0])
    readable = np.flatnonzero(structure.readable[members]).astype(np.int32)
    place = np.full(int(structure.layer_no[members].max(initial=0)) + 1, -1, np.int32)
    place[structure.layer_no[members[readable]]] = readable
    free = first[:-1].copy()
    span = (np.int64(low), np.int64(1) << 62 if high is None else np.int64(high))
    for batch in _batches(connection, structure, bucket, low, high, with_stored=with_stored):
        bad = _scatter(place, free, first, bucket.trees.size, span, _KINDS, *_columns(batch), *room)
        if bad >= 0:
            number = int(structure.layer_no[members[bad]])
            raise Permanent(f"manifest: the extents of layer_no {number} do not agree with its row in layers")
    _close_gaps(first, free, *room)
    return Extents(first, *room)


def _columns(batch: pa.RecordBatch) -> list[NDArray[np.generic]]:
    return [column.to_numpy(zero_copy_only=False) for column in batch.columns]


def _spans(numbers: Ints) -> list[tuple[int, int]]:
    """The layer numbers between which to read: not over gaps that are longer than what is read at once anyway."""
    ascending = np.sort(numbers)
    cuts = np.flatnonzero(np.diff(ascending) > _GAP) + 1
    return [(int(span[0]), int(span[-1])) for span in np.split(ascending, cuts)]


def _batches(
    connection: duckdb.DuckDBPyConnection,
    structure: Structure,
    bucket: Bucket,
    low: int,
    high: int | None,
    *,
    with_stored: bool,
) -> Iterator[pa.RecordBatch]:
    stored = "host_length" if with_stored else "0::BIGINT"
    text = f"SELECT layer_no, start, length, kind, {stored} AS host_length FROM extents "  # noqa: S608
    where, bound = _filter(low, high)
    for first, last in _spans(structure.layer_no[bucket.members]):
        relation = connection.sql(text + where, params=bound | {"first": first, "last": last})
        yield from relation.to_arrow_reader(BATCH_ROWS)


def _filter(low: int, high: int | None) -> tuple[str, dict[str, int]]:
    """Rows of the layers `$first` to `$last` in a part of the address space, in bytes."""
    if not low and high is None:
        return "WHERE layer_no BETWEEN $first AND $last", {}
    where = "WHERE layer_no BETWEEN $first AND $last AND start + length > $low_byte AND start < $high_byte"
    return where, {"low_byte": low, "high_byte": high if high is not None else 1 << 62}


def _counted(
    connection: duckdb.DuckDBPyConnection, structure: Structure, bucket: Bucket, low: int, high: int | None
) -> Ints:
    count = np.zeros(int(structure.layer_no.max(initial=0)) + 1, np.int64)
    where, bound = _filter(low, high)
    text = f"SELECT layer_no::BIGINT AS layer_no, count(*) AS n FROM extents {where} GROUP BY layer_no"  # noqa: S608
    for first, last in _spans(structure.layer_no[bucket.members]):
        rows = connection.execute(text, bound | {"first": first, "last": last}).fetchnumpy()
        count[np.asarray(rows["layer_no"])] = np.asarray(rows["n"])
    return count[structure.layer_no[bucket.members]]


@njit(cache=True, nogil=True)
def _scatter(
    place, free, first, sizes, span, kinds, layer_no, start, length, kind, host, to_start, to_end, to_kind, to_host
):
    """Put the rows of a batch where their layers' extents are; a layer whose rows make no sense, or -1."""
    number, layer, at, room, size = np.int64(-1), np.int64(-1), np.int64(0), np.int64(0), np.int64(0)
    for row in range(layer_no.size):
        if layer_no[row] != number:  # rows come layer by layer: look a layer up once
            if layer >= 0:
                free[layer] = at
            number = np.int64(layer_no[row])
            layer = np.int64(place[number]) if 0 <= number < place.size else np.int64(-1)
            if layer >= 0:
                at, room, size = free[layer], first[layer + 1], sizes[layer]
        if layer < 0:
            continue
        begin = max(start[row], span[0])
        end = min(start[row] + length[row], size, span[1])
        if start[row] < 0 or length[row] < 0 or not 0 <= kind[row] < kinds.size:
            return layer
        if end <= begin:
            continue
        ours = kinds[kind[row]]
        if at >= room or (ours == COMPRESSED and to_host.size == 0):
            return layer
        to_start[at], to_end[at], to_kind[at] = begin, end, ours
        if to_host.size:
            to_host[at] = host[row]
        at += 1
    if layer >= 0:
        free[layer] = at
    return -1


@njit(cache=True, nogil=True)
def _close_gaps(first, free, start, end, kind, stored):
    """Move the extents together where a layer had fewer rows than expected, or rows that lie behind its end."""
    at, begin = np.int64(0), first[0]
    for layer in range(first.size - 1):
        filled = free[layer] - begin
        if at != begin:
            for k in range(filled):
                start[at + k], end[at + k], kind[at + k] = start[begin + k], end[begin + k], kind[begin + k]
                if stored.size:
                    stored[at + k] = stored[begin + k]
        begin = first[layer + 1]
        first[layer] = at
        at += filled
    first[first.size - 1] = at
