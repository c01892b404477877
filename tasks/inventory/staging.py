"""Snapshots on the local disk: every file is fetched once, verified, and shared by the snapshots that name it.

    <cache_dir>/snapshots/<snapshot_id>/<dataset>/*.parquet   links to files; the folder's time is its last use
    <cache_dir>/files/…                                       the time of a file without a snapshot is its last use
    <cache_dir>/lock                                          shared by whoever stages, exclusive while something goes

What nobody used for a day goes with the next scan or snapshot, but for the newest few. So does what a process that was
killed left half made.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tasks import clock, retry
from tasks.errors import Permanent, Transient
from tasks.inventory.snapshot import FileRef, Snapshot
from tasks.store.base import ObjectStore
from tasks.units import MIB

FETCH_THREADS = 8
PIECE_BYTES = 32 * MIB  # held in memory per thread
KEPT_SNAPSHOTS = 3
UNUSED_SECONDS = 86_400.0

logger = logging.getLogger(__name__)


def stage(control: ObjectStore, snapshot: Snapshot, cache_dir: Path) -> Path:
    """The folder `<cache_dir>/snapshots/<snapshot_id>`, with `<dataset>/*.parquet` in it.

    Fetches only files that `cache_dir` does not hold, in parallel; safe to call from several processes at once.
    Raises the store's errors; Permanent if a file in the store is not the one that the snapshot names.
    """
    target = cache_dir / "snapshots" / snapshot.snapshot_id
    with _lock(cache_dir, fcntl.LOCK_SH):
        known = target.is_dir()
        if not known:
            _build(control, snapshot, cache_dir, target)
        os.utime(target)
    if not known:
        tidy(cache_dir)
    return target


def _build(control: ObjectStore, snapshot: Snapshot, cache_dir: Path, target: Path) -> None:
    local = fetch_files(control, snapshot.files(), cache_dir)
    building = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        for dataset, refs in snapshot.datasets.items():
            (building / dataset).mkdir(parents=True, exist_ok=True)
            for ref in refs:
                os.link(local[ref.key], building / dataset / local[ref.key].name)
        building.mkdir(parents=True, exist_ok=True)
        try:
            building.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def tidy(cache_dir: Path) -> list[str]:
    """Remove what nobody used for a day, but for the newest few snapshots. After whatever may have fetched files."""
    return prune(cache_dir, KEPT_SNAPSHOTS, UNUSED_SECONDS)


def prune(cache_dir: Path, keep: int, unused_seconds: float = 0.0) -> list[str]:
    """Remove snapshots and files without one that nobody used for so long; not the `keep` newest (ids sort by time).

    The ids that went; none while somebody stages. A reader of a removed snapshot fails: keep one more than are in use.
    """
    if not cache_dir.is_dir():
        return []
    limit = clock.now().timestamp() - unused_seconds
    try:
        with _lock(cache_dir, fcntl.LOCK_EX | fcntl.LOCK_NB):
            snapshots = sorted(path for path in (cache_dir / "snapshots").glob("[!.]*") if path.is_dir())
            old = [path for path in snapshots[:-keep] if path.stat().st_mtime <= limit]
            for path in old:
                shutil.rmtree(path, ignore_errors=True)
            for file in (cache_dir / "files").glob("[!.]*"):
                if file.stat().st_nlink == 1 and file.stat().st_mtime <= limit:
                    file.unlink(missing_ok=True)
            _remove_half_made(cache_dir)
    except BlockingIOError:
        return []
    if old:
        logger.info("%s: %s old snapshots removed", cache_dir, len(old))
    return [path.name for path in old]


def _remove_half_made(cache_dir: Path) -> None:
    """Under the exclusive lock nobody is making anything: what is hidden is of a process that was killed."""
    for file in (cache_dir / "files").glob(".*"):
        file.unlink(missing_ok=True)
    for folder in (cache_dir / "snapshots").glob(".*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def scratch(work_dir: Path, name: str) -> Iterator[Path]:
    """A private folder `<work_dir>/<name>-…`, removed at the end. Those of processes that died go with the next one."""
    for old in work_dir.glob(f"{name}-*"):
        _remove_dead(old)
    work_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=work_dir) as folder, _held(Path(folder)):
        yield Path(folder)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder's own lock, which the kernel gives back when its process ends, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_dead(folder: Path) -> None:
    with contextlib.suppress(OSError):  # held (BlockingIOError), or gone by now
        if clock.now().timestamp() - folder.stat().st_mtime < UNUSED_SECONDS:
            return  # its owner may not hold it yet
        with _held(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _lock(cache_dir: Path, how: int) -> Iterator[None]:
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (cache_dir / "lock").open("ab") as file:
        fcntl.flock(file, how)
        yield


def fetch_files(control: ObjectStore, refs: list[FileRef], cache_dir: Path) -> dict[str, Path]:
    """Local paths of the files, by key."""
    folder = cache_dir / "files"
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(cache_dir, fcntl.LOCK_SH), ThreadPoolExecutor(FETCH_THREADS) as pool:
        paths = list(pool.map(lambda ref: _fetch(control, ref, folder), refs))
    return {ref.key: path for ref, path in zip(refs, paths, strict=True)}


def local_path(ref: FileRef, folder: Path) -> Path:
    """Where a file of the store is kept. Keys are our own, of a snapshot id and a plain name."""
    return folder / ref.key.removeprefix("manifests/").replace("/", "_")


def _fetch(control: ObjectStore, ref: FileRef, folder: Path) -> Path:
    path = local_path(ref, folder)
    if path.is_file() and path.stat().st_size == ref.bytes:
        os.utime(path)
        return path
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        for attempt in retry.store_call():
            with attempt:
                digest = _download(control, ref, partial)
        if digest != ref.sha256:
            raise Permanent(f"{ref.key}: sha256 {digest}, the snapshot says {ref.sha256}")
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _download(control: ObjectStore, ref: FileRef, partial: Path) -> str:
    digest = hashlib.sha256()
    with partial.open("wb") as file:
        for start in range(0, ref.bytes, PIECE_BYTES):
            piece = control.get_range(ref.key, start, min(PIECE_BYTES, ref.bytes - start))
            if len(piece) != min(PIECE_BYTES, ref.bytes - start):
                raise Transient(f"{ref.key}: {len(piece)} bytes at {start}, the snapshot says {ref.bytes} in all")
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()
