"""Reads, boot traces and receipts of a made-up fleet."""

import datetime
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from tasks.analytics.fleetgen.forest import REGIONS, Forest, Ints
from tasks.analytics.fleetgen.records import DAY_US, HOUR_US, HeadSet, Names
from tasks.inventory.schema import BOOT_TRACES, READS, RECEIPTS
from tasks.units import SLICE_BYTES

CHUNK_READS = 250_000
_BUCKETS = 24  # latencies up to 2^24 microseconds
_STATUS = np.array(["hit", "miss", "none"])


def read_tables(
    forest: Forest, heads: HeadSet, names: Names, rows: int, until: datetime.datetime, rng: np.random.Generator
) -> Iterator[pa.Table]:
    """About `rows` rows over the last 14 days: most reads end near the tip, the deep ones at the base."""
    disks = np.flatnonzero(heads.kind == "disk")
    ladder = _ladder(forest.parent)
    end = int(until.timestamp() * 1_000_000) // HOUR_US * HOUR_US
    done = 0
    while done < rows and len(disks):
        count = min(CHUNK_READS, rows - done)
        head = disks[(len(disks) * rng.random(count) ** 1.5).astype(np.int64)]
        layer = _climb(ladder, heads.tip[head], rng)
        yield _reads(forest, heads, names, head, layer, end, rng)
        done += count


def _ladder(parent: Ints) -> list[Ints]:
    """Ancestors 1, 2, 4, … 512 below; a base stays where it is."""
    below = np.where(parent < 0, np.arange(len(parent)), parent)
    steps = [below]
    for _ in range(9):
        steps.append(steps[-1][steps[-1]])
    return steps


def _climb(ladder: list[Ints], layer: Ints, rng: np.random.Generator) -> Ints:
    depth = np.minimum(1023, rng.exponential(12, len(layer)).astype(np.int64))
    for bit, below in enumerate(ladder):
        layer = np.where((depth >> bit) & 1, below[layer], layer)
    return layer


def _reads(
    forest: Forest, heads: HeadSet, names: Names, head: Ints, layer: Ints, end: int, rng: np.random.Generator
) -> pa.Table:
    count = len(head)
    reader = np.where(rng.random(count) < 0.95, heads.region[head], rng.integers(0, len(REGIONS), count))
    remote = forest.region[layer] != reader
    chance = np.where(forest.is_base[layer], 0.9, np.where(remote, 0.35, 0.6))
    status = np.where(rng.random(count) < chance, 0, np.where(rng.random(count) < 0.05, 2, 1))
    requests = 1 + rng.geometric(0.02, count)
    sent = (requests * rng.lognormal(11, 1, count)).astype(np.int64)
    upstream = np.where(status == 0, 0, np.maximum(sent, np.minimum(requests, 1 + sent // SLICE_BYTES) * SLICE_BYTES))
    columns = [
        pa.array(end - rng.integers(0, 14 * 24, count) * HOUR_US, pa.int64()).cast(pa.timestamp("us", "UTC")),
        pa.array(heads.disk_id[head]),
        pa.array(names.layer_id[layer]),
        pa.array(np.array(REGIONS)[reader]),
        pa.array(np.array(REGIONS)[forest.region[layer]]),
        pa.array(_STATUS[status]),
        pa.array(requests),
        pa.array(sent),
        pa.array(upstream),
        _latencies(status, remote, requests),
    ]
    return pa.table(columns, schema=READS)


def _latencies(status: Ints, remote: Ints, requests: Ints) -> pa.ListArray:
    """Half a millisecond from the cache, 10 from the region's own store, 90 from another; a tenth four times slower."""
    usual = np.where(status == 0, 9, np.where(remote, 16, 13))
    slow = requests // 10
    histogram = np.zeros((len(status), _BUCKETS), np.int32)
    rows = np.arange(len(status))
    histogram[rows, usual] = requests - slow
    histogram[rows, usual + 2] = slow
    offsets = np.arange(0, histogram.size + 1, _BUCKETS, dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, histogram.ravel())


def boot_table(
    forest: Forest, heads: HeadSet, names: Names, until: datetime.datetime, rng: np.random.Generator
) -> pa.Table:
    """The first slices that 200 starts touched, in order."""
    disks = np.flatnonzero(heads.kind == "disk")[:200]
    per_start = 40
    head = np.repeat(disks, per_start)
    layer = _climb(_ladder(forest.parent), heads.tip[head], rng)
    started = int(until.timestamp() * 1_000_000) - rng.integers(0, 7, len(disks)) * DAY_US
    columns = [
        pa.array(heads.disk_id[head]),
        pa.array(np.array(REGIONS)[heads.region[head]]),
        pa.array(np.repeat(started, per_start)).cast(pa.timestamp("us", "UTC")),
        pa.array(np.tile(np.arange(per_start), len(disks)).astype(np.int32)),
        pa.array(names.layer_id[layer]),
        pa.array(rng.integers(0, 40, len(head)).astype(np.int32)),
    ]
    return pa.table(columns, schema=BOOT_TRACES)


def receipt_table(heads: HeadSet, rows: int, until: datetime.datetime, rng: np.random.Generator) -> pa.Table:
    """Finished actions of the last 30 days; what was predicted is near what was needed."""
    before = rng.integers(9, 120, rows)
    removed = np.minimum(before - 2, rng.geometric(0.08, rows))
    outcome = rng.choice(["published", "superseded", "lost", "failed"], rows, p=[0.9, 0.05, 0.03, 0.02])
    done = outcome == "published"
    read, write, freed = ((removed * rng.lognormal(mean, 0.7, rows)).astype(np.int64) for mean in (16.5, 16.0, 15.0))
    seconds = read / 80e6 + 4
    error = rng.lognormal(0, 0.1, rows)
    disk = rng.choice(heads.disk_id[heads.kind == "disk"], rows)
    finished = int(until.timestamp() * 1_000_000) - (rng.random(rows) * 30 * DAY_US).astype(np.int64)
    columns = [
        pa.array(np.char.mod("%032x", rng.integers(0, 1 << 62, rows))),
        pa.array(disk),
        pa.array(rng.choice(["rebase", "stream", "compose", "live"], rows, p=[0.3, 0.3, 0.3, 0.1])),
        pa.array(outcome),
        pa.array(np.where(done, "chain_too_long", np.where(outcome == "superseded", "head_changed", "lease_lost"))),
        pa.array(finished).cast(pa.timestamp("us", "UTC")),
        *(pa.array(values.astype(np.int32)) for values in (before, before - removed * done)),
        *(pa.array(values.astype(np.int64)) for values in (read * error, read, write * error, write)),
        pa.array((freed * error).astype(np.int64)),
        _gone_ids((removed + 1) * done, rng),
        *(pa.array(values.astype(np.int64)) for values in ((write + freed) * done, write * done)),
        *(pa.array(values) for values in (seconds * error, seconds, read * 0.02 / 1e9)),
    ]
    return pa.table(columns, schema=RECEIPTS)


def _gone_ids(counts: Ints, rng: np.random.Generator) -> pa.Array:
    """Lists of that many ids of layers that are no longer there."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    ids = np.char.mod("%032x", rng.integers(0, 1 << 62, int(offsets[-1])))
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids, pa.string()))
