"""Snapshots on the local disk: every file is fetched once, verified, and shared by the snapshots that name it."""

import hashlib
import os
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tasks import retry
from tasks.errors import Permanent, Transient
from tasks.inventory.snapshot import FileRef, Snapshot
from tasks.store.base import ObjectStore
from tasks.units import MIB

FETCH_THREADS = 8
PIECE_BYTES = 32 * MIB  # held in memory per thread


def stage(control: ObjectStore, snapshot: Snapshot, cache_dir: Path) -> Path:
    """The folder `<cache_dir>/snapshots/<snapshot_id>`, with `<dataset>/*.parquet` in it.

    Fetches only files that `cache_dir` does not hold, in parallel; safe to call from several processes at once.
    Raises the store's errors; Permanent if a file in the store is not the one that the snapshot names.
    """
    target = cache_dir / "snapshots" / snapshot.snapshot_id
    if target.is_dir():
        return target
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
    return target


def prune(cache_dir: Path, keep: int) -> list[str]:
    """Remove all but the `keep` newest snapshots (ids sort by time) and the files that no snapshot has; what went.

    A reader of a removed snapshot fails: keep one more than are in use.
    """
    folder = cache_dir / "snapshots"
    old = sorted(path for path in folder.glob("[!.]*") if path.is_dir())[:-keep] if folder.is_dir() else []
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    for file in (cache_dir / "files").glob("[!.]*"):
        if file.stat().st_nlink == 1:
            file.unlink(missing_ok=True)
    return [path.name for path in old]


def fetch_files(control: ObjectStore, refs: list[FileRef], cache_dir: Path) -> dict[str, Path]:
    """Local paths of the files, by key."""
    folder = cache_dir / "files"
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        paths = list(pool.map(lambda ref: _fetch(control, ref, folder), refs))
    return {ref.key: path for ref, path in zip(refs, paths, strict=True)}


def local_path(ref: FileRef, folder: Path) -> Path:
    """Where a file of the store is kept. Keys are our own, of a snapshot id and a plain name."""
    return folder / ref.key.removeprefix("manifests/").replace("/", "_")


def _fetch(control: ObjectStore, ref: FileRef, folder: Path) -> Path:
    path = local_path(ref, folder)
    if path.is_file() and path.stat().st_size == ref.bytes:
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
