"""Datasets that others write: rows of the caches' logs are appended to the current snapshot.

Where files are joined, rows older than KEEP_DAYS go: otherwise a year of logs would be read and written again each day.
"""

import datetime
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks import clock
from tasks.errors import ConfigError, NotFound, PreconditionFailed
from tasks.inventory import manifest, parquet
from tasks.inventory.publish import PUBLISH_ATTEMPTS, Workspace
from tasks.inventory.schema import DATASETS
from tasks.inventory.snapshot import FileRef, Snapshot
from tasks.store.base import ObjectStore

APPENDABLE = {"reads": "hour", "boot_traces": "started_at"}  # with the column that says how old a row is
MAX_FILES = 64  # more are joined into one when the next is appended
KEEP_DAYS = 90.0  # findings look back 14 days unless they are asked for more


def append_dataset_files(control: ObjectStore, dataset: str, files: Sequence[Path]) -> Snapshot:
    """Add Parquet files (schema: `DATASETS[dataset]`) to `reads` or `boot_traces`; the new current snapshot.

    The files are uploaded under the new snapshot and shared by all later ones, whoever publishes them. Not idempotent:
    repeated, it adds the rows twice, so let the caller's own cursor decide. Files without rows are left out.
    NotFound before the first scan; ConfigError for another dataset or wrong columns; PreconditionFailed if others
    published again and again meanwhile (nothing was added).
    """
    if dataset not in APPENDABLE:
        raise ConfigError(f"dataset {dataset!r} is not one of {', '.join(APPENDABLE)}")
    for file in files:
        if parquet.schema_of(file).names != DATASETS[dataset].names:
            raise ConfigError(f"{file}: columns {parquet.schema_of(file).names}, {dataset} has other ones")
    return replace_files(control, dataset, [], files)


def append_under_cursor(
    control: ObjectStore, files: Mapping[str, Sequence[Path]], name: str, before: str, after: str
) -> Snapshot:
    """Add files to several datasets and move the cursor `name` from `before` ("" = none) to `after`, in one step.

    So rows that were made from a log up to `after` are added exactly once, whoever repeats the call or runs at the
    same time: PreconditionFailed if the cursor is not at `before` (nothing was added). NotFound before the first scan.
    """
    for dataset in files:
        if dataset not in APPENDABLE:
            raise ConfigError(f"dataset {dataset!r} is not one of {', '.join(APPENDABLE)}")
    for attempt in range(PUBLISH_ATTEMPTS):
        pointer, last = _current(control)
        if last.cursors.get(name, "") != before:
            raise PreconditionFailed(f"cursor {name}: another run has read on meanwhile")
        snapshot = replace(last, cursors={**last.cursors, name: after}, snapshot_id=manifest.new_snapshot_id())
        with tempfile.TemporaryDirectory(prefix="chainwright-append-") as folder:
            for dataset, paths in files.items():
                grown = _appended(control, snapshot, dataset, [], paths, Path(folder), snapshot.snapshot_id)
                snapshot = replace(grown, parent_id=last.snapshot_id)
        if _published(control, snapshot, pointer, final=attempt == PUBLISH_ATTEMPTS - 1):
            return snapshot
    raise AssertionError


def replace_files(control: ObjectStore, dataset: str, removed: Sequence[FileRef], files: Sequence[Path]) -> Snapshot:
    """Add files to a dataset and take others out of it, in one step. For roll-ups that are written anew.

    PreconditionFailed if one of `removed` is not in the dataset any more.
    """
    for attempt in range(PUBLISH_ATTEMPTS):
        pointer, last = _current(control)
        with tempfile.TemporaryDirectory(prefix="chainwright-append-") as folder:
            snapshot = _appended(control, last, dataset, removed, files, Path(folder), manifest.new_snapshot_id())
        if _published(control, snapshot, pointer, final=attempt == PUBLISH_ATTEMPTS - 1):
            return snapshot
    raise AssertionError


def _current(control: ObjectStore) -> tuple[manifest.Pointer, Snapshot]:
    pointer = manifest.read_pointer(control)
    if pointer.snapshot_id is None:
        raise NotFound("no manifest yet: run the inventory first (`chainwright scan`)")
    return pointer, manifest.load_snapshot(control, pointer.snapshot_id)


def _published(control: ObjectStore, snapshot: Snapshot, over: manifest.Pointer, *, final: bool) -> bool:
    """False: another was published first, and what was uploaded for this one is removed. Raises on the last try."""
    try:
        manifest.publish_snapshot(control, snapshot, over)
    except PreconditionFailed:
        manifest.discard(control, manifest.own_keys(snapshot))
        if final:
            raise
        return False
    return True


def _appended(
    control: ObjectStore,
    last: Snapshot,
    dataset: str,
    removed: Sequence[FileRef],
    files: Sequence[Path],
    folder: Path,
    snapshot_id: str,
) -> Snapshot:
    space = Workspace(control, folder / "files", folder, snapshot_id)
    present = list(last.datasets.get(dataset, ()))
    for ref in removed:
        if ref not in present:
            raise PreconditionFailed(f"{ref.key} is not in {dataset} of snapshot {last.snapshot_id}")
        present.remove(ref)
    added = [space.put(f"{dataset}-{n}", file) for n, file in enumerate(files) if parquet.row_count(file)]
    if len(present) + len(added) > MAX_FILES:
        present, added = [], [_joined(space, dataset, [*present, *added])]
    return replace(
        last,
        snapshot_id=space.snapshot_id,
        parent_id=last.snapshot_id,
        created_at=clock.now().isoformat(),
        datasets={**last.datasets, dataset: (*present, *added)},
    )


def _joined(space: Workspace, dataset: str, refs: Sequence[FileRef]) -> FileRef:
    """One file of what is worth keeping of the files, a piece of them in memory at a time."""
    path = space.folder / f"{dataset}-joined.parquet"
    since = clock.now() - datetime.timedelta(days=KEEP_DAYS)
    with parquet.open_writer(path, DATASETS[dataset]) as writer:
        for file in space.fetch(refs):
            for table in parquet.read_batches(file, DATASETS[dataset]):
                writer.write_table(_young(table, APPENDABLE[dataset], since))
    return space.put(f"{dataset}-joined", path)


def _young(table: pa.Table, column: str, since: datetime.datetime) -> pa.Table:
    return table.filter(pc.fill_null(pc.greater_equal(table[column], pa.scalar(since, table[column].type)), True))
