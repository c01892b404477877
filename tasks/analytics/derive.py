"""Compute the derived datasets of a manifest: `shadow_layers` and `steals`, exact over the whole forest.

What an earlier analysis already knows is taken over: a layer's steals while its chain below is the same, its visible
bytes while the layers above it up to the nearest heads are. So a new snapshot works the runs (fork-free, head-free
stretches) that changed, with what their chains need below them, and nothing else.
"""

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.analytics.derived import DERIVED, SHADOW_LAYERS, STEALS
from tasks.analytics.duck import open_manifest
from tasks.analytics.placed import FOLDER
from tasks.analytics.shadow import graph
from tasks.analytics.shadow.feed import Bucket, Buffers, load_extents, make_buckets, parts
from tasks.analytics.shadow.passes import work_trees
from tasks.analytics.shadow.structure import Flags, Ints, Kept, Structure, load_structure, still_valid
from tasks.errors import NotFound

BUCKET_ROWS = 9_000_000  # extents worked at a time: 25 bytes each, and about 20 for their steals
_KINDS = ("data_bytes", "zero_bytes", "compressed_bytes", "compressed_stored_bytes")


@dataclass(frozen=True, slots=True)
class Derived:
    """What was done. `worked` layers had their extents read; the others were taken over or have none."""

    layers: int
    worked_layers: int
    worked_extents: int
    stale_layers: int
    steals: int
    buckets: int


def is_derived(directory: Path) -> bool:
    """Whether the derived datasets lie next to the manifest, with the columns of this version."""
    return all(_fits(directory / name, schema) for name, schema in DERIVED.items())


def _fits(folder: Path, schema: pa.Schema) -> bool:
    files = list(folder.glob("*.parquet"))
    return bool(files) and all(pq.read_schema(file).names == schema.names for file in files)


def derive(
    directory: Path,
    previous: Path | None = None,
    *,
    memory_limit: str = "1GB",
    threads: int = 2,
    bucket_rows: int = BUCKET_ROWS,
) -> Derived:
    """Write the derived datasets into `directory`, next to the manifest; `previous` is an earlier one that has them.

    May be called again, and by several processes at once: the first result stays. Raises NotFound if there is no
    manifest, Permanent if it contradicts itself.
    """
    if not directory.is_dir():
        raise NotFound(f"{directory}: no such manifest folder")
    with tempfile.TemporaryDirectory(prefix=".derive-", dir=directory) as folder:
        with open_manifest(directory, memory_limit=memory_limit, threads=threads, views=False) as connection:
            done = _derive(connection, Path(folder), previous, threads, bucket_rows)
        adopt(Path(folder), directory)
    return done


def adopt(folder: Path, directory: Path) -> None:
    """Move finished derived datasets next to the manifest, unless another process was faster."""
    for name, schema in DERIVED.items():
        if (directory / name).is_dir() and not _fits(directory / name, schema):
            for old in (name, FOLDER):  # of an older version
                shutil.rmtree(directory / old, ignore_errors=True)
        with contextlib.suppress(OSError):
            (folder / name).rename(directory / name)


def _derive(
    connection: duckdb.DuckDBPyConnection, target: Path, previous: Path | None, threads: int, bucket_rows: int
) -> Derived:
    structure = load_structure(connection)
    earlier = _earlier(previous)
    kept = still_valid(structure, earlier)
    reached = structure.reached
    stale_visible = structure.live & ~kept.visible
    stale_steals = structure.live & ~kept.steals
    wanted = graph.needed(
        structure.order, structure.parent, structure.is_head, structure.live, stale_visible, stale_steals
    )
    wanted |= reached & ~kept.allocated
    sums = _taken_over(structure, kept, earlier, wanted)
    buckets, pairs, buffers = 0, 0, Buffers()
    (target / "steals").mkdir()
    with _steals_writer(target / "steals" / "part-new.parquet") as writer:
        for bucket in make_buckets(structure, wanted, stale_visible, stale_steals, bucket_rows):
            buckets += 1
            for table in _work(connection, structure, bucket, buffers, sums, threads, bucket_rows):
                writer.write_table(table)
                pairs += table.num_rows
    del buffers
    pairs += _keep_steals(previous, structure.layer_no[kept.steals], target / "steals")
    _write_layers(structure, sums, reached, target / "shadow_layers")
    return Derived(
        len(structure.layer_no),
        int(wanted.sum()),
        int(structure.extents[wanted].sum()),
        int((stale_visible | stale_steals).sum()),
        pairs,
        buckets,
    )


@dataclass(slots=True)
class _Sums:
    """Bytes by layer and kind (DATA, ZERO, COMPRESSED, stored bytes of COMPRESSED)."""

    allocated: Ints
    visible: Ints


def _earlier(previous: Path | None) -> dict[str, NDArray[np.generic]] | None:
    if previous is None or not is_derived(previous):
        return None
    table = pq.read_table(previous / "shadow_layers", schema=SHADOW_LAYERS)
    return {name: table[name].to_numpy() for name in table.column_names}


def _taken_over(
    structure: Structure, kept: Kept, earlier: dict[str, NDArray[np.generic]] | None, wanted: Flags
) -> _Sums:
    count = len(structure.layer_no)
    sums = _Sums(np.zeros((count, len(_KINDS)), np.int64), np.zeros((count, len(_KINDS)), np.int64))
    if earlier is None:
        return sums
    allocated, visible = kept.allocated & ~wanted, kept.visible
    for k, name in enumerate(_KINDS):
        sums.allocated[allocated, k] = earlier[name][kept.row[allocated]]
        sums.visible[visible, k] = earlier[f"visible_{name}"][kept.row[visible]]
    return sums


def _work(
    connection: duckdb.DuckDBPyConnection,
    structure: Structure,
    bucket: Bucket,
    buffers: Buffers,
    sums: _Sums,
    threads: int,
    bucket_rows: int,
) -> Iterator[pa.Table]:
    """One bucket: adds to the sums; its steals as rows of the dataset, table by table."""
    allocated = np.zeros((len(bucket.members), len(_KINDS)), np.int64)
    hidden = np.zeros_like(allocated)
    steals: list[Ints] = []
    pieces = parts(connection, structure, bucket, bucket_rows)
    for part in pieces:
        extents = load_extents(connection, structure, part, buffers)
        shares = _shares(part.trees.first, extents.first, threads)
        with ThreadPoolExecutor(max_workers=threads) as pool:
            jobs = [
                pool.submit(work_trees, part.trees, low, high, part.layers, extents, allocated, hidden)
                for low, high in shares
            ]
            steals += [job.result() for job in jobs]
    sums.allocated[bucket.members] = allocated
    wanted = bucket.layers.want_visible
    sums.visible[bucket.members[wanted]] = (allocated - hidden)[wanted]
    if len(pieces) > 1:
        steals = [np.concatenate(steals, axis=1)]
    while steals:
        yield _steal_rows(structure.layer_no[bucket.members], steals.pop(0))


def _shares(trees: NDArray[np.int32], first: Ints, threads: int) -> list[tuple[int, int]]:
    """Stretches of trees with about the same number of extents, one per thread."""
    before = first[trees]
    cuts = np.searchsorted(before, before[-1] * np.arange(1, threads) / threads).tolist()
    bounds = [0, *cuts, len(trees) - 1]
    return [(low, high) for low, high in itertools.pairwise(bounds) if high > low]


def _steal_rows(layer_no: Ints, steals: Ints) -> pa.Table:
    """Steals between members of a bucket as rows of the dataset, by ascending upper and lower layer."""
    pair = layer_no[steals[0]] << 31 | layer_no[steals[1]]
    sums = list(steals[2:])
    if not (pair[1:] > pair[:-1]).all():  # layers not numbered in preorder, or a tree that came in parts
        order = np.argsort(pair, kind="stable")
        pair = pair[order]
        fresh = np.flatnonzero(np.append(True, pair[1:] != pair[:-1]))
        sums = [column[order] for column in sums]
        if len(fresh) < len(pair):
            pair, sums = pair[fresh], [np.add.reduceat(column, fresh) for column in sums]
    columns = [(pair >> 31).astype(np.int32), (pair & (1 << 31) - 1).astype(np.int32)]
    return pa.table([*columns, *sums], schema=STEALS)


def _steals_writer(path: Path) -> pq.ParquetWriter:
    numbers, sums = STEALS.names[:2], STEALS.names[2:]
    encodings = dict.fromkeys(numbers, "DELTA_BINARY_PACKED")
    return pq.ParquetWriter(path, STEALS, compression="zstd", use_dictionary=sums, column_encoding=encodings)


def _keep_steals(previous: Path | None, uppers: Ints, folder: Path) -> int:
    """Copy the earlier steals of layers whose chain below is the same; how many rows."""
    if previous is None or len(uppers) == 0:
        return 0
    with open_manifest(previous, views=False) as connection:
        connection.register("kept", pa.table({"upper_no": uppers.astype(np.int32)}))
        reader = connection.sql("FROM steals SEMI JOIN kept USING (upper_no)").to_arrow_reader(500_000)
        rows = 0
        with _steals_writer(folder / "part-kept.parquet") as writer:
            for batch in reader:
                writer.write_batch(batch.cast(STEALS))
                rows += batch.num_rows
    return rows


def _write_layers(structure: Structure, sums: _Sums, reached: Flags, folder: Path) -> None:
    folder.mkdir()
    numbers = structure.layer_no.astype(np.int32)
    depth, root = graph.depths(structure.order, structure.parent)
    top, position = graph.runs(structure.order, structure.parent, structure.is_head, structure.live)
    dead = ~structure.live[reached]
    columns = [numbers[reached], structure.live[reached], structure.exact[reached]]
    columns += [structure.heads[reached].astype(np.int32), depth[reached], numbers[root[reached]]]
    columns += [pa.array(numbers[top[reached]], mask=dead), pa.array(position[reached], mask=dead)]
    columns += [sums.allocated[reached, k] for k in range(len(_KINDS))]
    columns += [sums.visible[reached, k] for k in range(len(_KINDS))]
    columns += [structure.path_key[reached], structure.cone_key[reached]]
    pq.write_table(pa.table(columns, schema=SHADOW_LAYERS), folder / "part-0000.parquet", compression="zstd")


def discard_derived(directory: Path) -> None:
    """Remove the derived datasets, so that the next `derive` starts afresh."""
    for name in (*DERIVED, FOLDER):
        shutil.rmtree(directory / name, ignore_errors=True)
