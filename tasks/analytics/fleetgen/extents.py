"""The extents of a made-up fleet, written chunk by chunk: hot zones, a sequential log, dense bases."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.analytics.fleetgen.forest import Flags, Forest, Ints
from tasks.chain.layer import ExtentKind
from tasks.inventory.schema import EXTENTS

CHUNK_EXTENTS = 2_000_000
FILE_EXTENTS = 10_000_000
ROW_GROUP = 500_000
_DELTA = ("layer_no", "start", "length", "host_offset", "host_length")
_ZONES = 256


@dataclass(slots=True)
class Totals:
    """Per layer, what its extents add up to."""

    extents: Ints
    data_bytes: Ints
    zero_bytes: Ints
    compressed_bytes: Ints
    stored_bytes: Ints
    l2_tables: Ints

    @classmethod
    def empty(cls, layers: int) -> "Totals":
        return cls(*(np.zeros(layers, np.int64) for _ in range(6)))


@dataclass(slots=True)
class _Chunk:
    layer: Ints
    start: Ints
    length: Ints
    kind: NDArray[np.int8]
    host_offset: Ints
    host_length: Ints


def write_extents(
    forest: Forest, layer_no: Ints, empty: Flags, per_layer: float, folder: Path, rng: np.random.Generator
) -> Totals:
    """About `per_layer` extents a layer, none for the `empty` ones, sorted by (layer_no, start); their sums."""
    folder.mkdir(parents=True, exist_ok=True)
    totals = Totals.empty(forest.count)
    wanted = _counts(forest, per_layer, rng) * ~empty
    order = np.argsort(layer_no, kind="stable")
    compressed_base = rng.random(forest.count) < 0.3
    writer, rows, number = None, 0, 0
    for layers in _chunks(order, wanted):
        chunk = _chunk(forest, layers, wanted, compressed_base, rng)
        if len(chunk.layer) == 0:
            continue
        _add(totals, chunk, forest)
        if writer is None:
            writer = _writer(folder / f"part-{number:04d}.parquet")
        writer.write_table(_table(chunk, layer_no), row_group_size=ROW_GROUP)
        rows += len(chunk.layer)
        if rows >= FILE_EXTENTS:
            writer.close()
            writer, rows, number = None, 0, number + 1
    if writer is not None:
        writer.close()
    return totals


def _writer(path: Path) -> pq.ParquetWriter:
    encodings = dict.fromkeys(_DELTA, "DELTA_BINARY_PACKED")
    return pq.ParquetWriter(
        path, EXTENTS, compression="zstd", compression_level=1, use_dictionary=["kind"], column_encoding=encodings
    )


def _table(chunk: _Chunk, layer_no: Ints) -> pa.Table:
    columns = [
        layer_no[chunk.layer].astype(np.int32),
        chunk.start,
        chunk.length,
        chunk.kind,
        chunk.host_offset,
        chunk.host_length,
    ]
    return pa.table(columns, schema=EXTENTS)


def _counts(forest: Forest, per_layer: float, rng: np.random.Generator) -> Ints:
    count = np.minimum(20_000, np.ceil(rng.lognormal(3.8, 1.2, forest.count))).astype(np.int64)
    base = forest.is_base
    count[base] = np.minimum(20_000, np.ceil(rng.lognormal(7.2, 0.8, int(base.sum())))).astype(np.int64)
    left = forest.count * per_layer - count[base].sum()
    scale = max(0.05, left / max(1, count[~base].sum()))
    count[~base] = np.maximum(1, (count[~base] * scale).astype(np.int64))
    return count


def _chunks(order: Ints, wanted: Ints) -> Iterator[Ints]:
    """Stretches of the layers, in the order in which they are written, of bounded size."""
    summed = np.cumsum(wanted[order])
    low = 0
    while low < len(order):
        done = summed[low - 1] if low else 0
        high = max(low + 1, int(np.searchsorted(summed, done + CHUNK_EXTENTS)))
        yield order[low:high]
        low = high


def _chunk(
    forest: Forest, layers: Ints, wanted: Ints, compressed_base: NDArray[np.bool_], rng: np.random.Generator
) -> _Chunk:
    place = np.repeat(np.arange(len(layers)), wanted[layers])  # index into `layers`, so that the order stays
    layer = layers[place]
    grain = 1 << np.where(forest.extended[layer], 11, forest.cluster_bits[layer])
    grains = -(-forest.virtual_size[layer] // grain)
    start = _starts(forest, layer, grains, rng)
    run = _run_lengths(forest, layer, rng)
    kind = _kinds(forest, layer, compressed_base, rng)
    squeezed = kind == ExtentKind.COMPRESSED
    if squeezed.any():  # one extent per compressed cluster, on a cluster boundary
        run[squeezed] = 1
    order = np.lexsort((start, place))
    place, layer, start, run, kind = place[order], layer[order], start[order], run[order], kind[order]
    grain, grains = grain[order], grains[order]
    following = np.full(len(place), np.int64(1) << 60)
    same = place[1:] == place[:-1]
    following[:-1][same] = start[1:][same]
    run = np.minimum(np.minimum(run, following - start), grains - start)
    keep = run > 0
    layer, start, run, kind, grain = layer[keep], start[keep], run[keep], kind[keep], grain[keep]
    begin = start * grain
    length = np.minimum(run * grain, forest.virtual_size[layer] - begin)
    host_length = _host_lengths(kind, run * grain, rng)
    return _Chunk(layer, begin, length, kind, _host_offsets(layer, kind, host_length, rng), host_length)


def _starts(forest: Forest, layer: Ints, grains: Ints, rng: np.random.Generator) -> Ints:
    """Hot zones (a few of 256 take most writes), 15 % a log that runs on from layer to layer; bases from the front."""
    count = len(layer)
    key = forest.hot_key[layer]
    rank = np.floor(_ZONES * rng.random(count) ** 4).astype(np.int64)
    zone = (rank * ((key * 2 + 1) & 255 | 1) + (key >> 3)) & 255
    width = np.maximum(grains // _ZONES, 1)
    start = zone * width + (width * rng.random(count) ** 4).astype(np.int64)
    log = grains // 3 + (forest.position[layer] * 800 + (800 * rng.random(count)).astype(np.int64)) % (grains // 2 + 1)
    start = np.where(rng.random(count) < 0.15, log, start)
    dense = (grains * rng.random(count) ** 1.3).astype(np.int64)
    chosen: Ints = np.minimum(np.where(forest.is_base[layer], dense, start), grains - 1)
    return chosen


def _run_lengths(forest: Forest, layer: Ints, rng: np.random.Generator) -> Ints:
    """In grains: geometric, 5 % sixteen times as long; bases long."""
    count = len(layer)
    run = rng.geometric(1 / 6, count)
    run = np.where(rng.random(count) < 0.05, run * 16, run)
    run = np.where(forest.is_base[layer], rng.geometric(1 / 40, count), run)
    shrunk: Ints = run >> np.maximum(forest.cluster_bits[layer] - 18, 0)
    return np.maximum(shrunk, 1)


def _kinds(
    forest: Forest, layer: Ints, compressed_base: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int8]:
    draw = rng.random(len(layer))
    kind = np.full(len(layer), ExtentKind.DATA, np.int8)
    kind[draw < 0.12] = ExtentKind.COMPRESSED
    kind[draw < 0.07] = ExtentKind.ZERO
    kind[draw < 0.01] = ExtentKind.ZERO_ALLOCATED
    kind[forest.is_base[layer] & compressed_base[layer] & (kind == ExtentKind.DATA)] = ExtentKind.COMPRESSED
    kind[forest.extended[layer] & (kind == ExtentKind.COMPRESSED)] = ExtentKind.DATA
    return kind


def _host_lengths(kind: NDArray[np.int8], guest: Ints, rng: np.random.Generator) -> Ints:
    squeezed = np.maximum(512, (guest * rng.uniform(0.2, 0.8, len(guest))).astype(np.int64))
    host = np.where(kind == ExtentKind.COMPRESSED, squeezed, guest)
    return np.where(kind == ExtentKind.ZERO, 0, host)


def _host_offsets(layer: Ints, kind: NDArray[np.int8], host_length: Ints, rng: np.random.Generator) -> Ints:
    """Clusters lie in the object in the order in which the guest first wrote them: random within a layer."""
    count = len(layer)
    first = np.concatenate([[True], layer[1:] != layer[:-1]])
    group = np.cumsum(first) - 1
    order = np.lexsort((rng.random(count), group))
    room = -(-host_length // 65536) * 65536
    ends = np.cumsum(room[order])
    begin_of_group = np.concatenate([[0], np.cumsum(np.bincount(group, weights=room).astype(np.int64))[:-1]])
    offset = np.empty(count, np.int64)
    offset[order] = ends - room[order] - begin_of_group[group[order]] + 5 * 65536
    offset[kind == ExtentKind.ZERO] = -1
    return offset


def _add(totals: Totals, chunk: _Chunk, forest: Forest) -> None:
    low, high = int(chunk.layer.min()), int(chunk.layer.max()) + 1
    shifted = chunk.layer - low

    def summed(values: Ints) -> Ints:
        return np.bincount(shifted, weights=values, minlength=high - low).astype(np.int64)

    kind = chunk.kind
    totals.extents[low:high] += np.bincount(shifted, minlength=high - low)
    totals.data_bytes[low:high] += summed(chunk.length * (kind == ExtentKind.DATA))
    zero = (kind == ExtentKind.ZERO) | (kind == ExtentKind.ZERO_ALLOCATED)
    totals.zero_bytes[low:high] += summed(chunk.length * zero)
    totals.compressed_bytes[low:high] += summed(chunk.length * (kind == ExtentKind.COMPRESSED))
    totals.stored_bytes[low:high] += summed(chunk.host_length * (kind != ExtentKind.ZERO_ALLOCATED))
    reach = forest.cluster_bits[chunk.layer] * 2 - 3 - forest.extended[chunk.layer]  # log2 of what one L2 table maps
    table, last = chunk.start >> reach, (chunk.start + chunk.length - 1) >> reach
    fresh = np.ones(len(table), bool)
    fresh[1:] = (chunk.layer[1:] != chunk.layer[:-1]) | (table[1:] > last[:-1])
    totals.l2_tables[low:high] += summed(fresh + (last - table))
