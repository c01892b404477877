"""Bring whole layers into a work folder, so that a run which was cut short goes on where it stopped.

Layout of `<work_dir>/export/<disk_id>/`:

    lock                      held (flock) by the one export of this disk
    parts/<key of version>    whole files; `.part` while they grow, always a prefix of the object; `.sha256` notes
    chain/<layer_id>.qcow2    hard links under the names that the headers use; made anew by every run
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tasks.errors import Permanent, Refused
from tasks.stages.remote_chain import RemoteLayer
from tasks.store.base import ObjectStore
from tasks.store.download import PIECE_BYTES, pieces
from tasks.units import MIB

FETCHES = 3  # of one layer, until its bytes can be believed
_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')


@contextlib.contextmanager
def work_folder(work_dir: Path, disk_id: str) -> Iterator[Path]:
    """The private folder of this disk's export, locked. Refused (`busy`) if another export of it runs.

    Kept after a failure, removed after success.
    """
    folder = work_dir / "export" / disk_id
    try:
        (folder / "parts").mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("ab")
    except OSError as error:
        raise Permanent(f"work directory {work_dir}: {error.strerror or error}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("busy", f"another export of disk {disk_id} runs in {folder}") from None
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def part_path(folder: Path, layer: RemoteLayer) -> Path:
    """Where this version of the layer is kept."""
    version = hashlib.sha256(f"{layer.stored.region} {layer.info.key} {layer.info.etag}".encode()).hexdigest()
    return folder / "parts" / version[:32]


def bytes_here(folder: Path, layer: RemoteLayer) -> int:
    """How much of the layer is in the folder already and will be kept."""
    whole = part_path(folder, layer)
    with contextlib.suppress(FileNotFoundError):
        return whole.stat().st_size
    with contextlib.suppress(FileNotFoundError):
        return _kept(whole.with_suffix(".part").stat().st_size, layer)
    return 0


def _kept(size: int, layer: RemoteLayer) -> int:
    """Whole pieces of a prefix: the last one may not have reached the disk."""
    return min(size, layer.info.size) // PIECE_BYTES * PIECE_BYTES


def drop_others(folder: Path, layers: list[RemoteLayer]) -> None:
    """Remove what earlier exports left of layers that this chain has no longer."""
    wanted = {part_path(folder, layer).name for layer in layers}
    for path in (folder / "parts").iterdir():
        if path.stem not in wanted:
            path.unlink()


def fetch_all(
    folder: Path, layers: list[RemoteLayer], stores: Mapping[str, ObjectStore], progress: Callable[[int], None]
) -> list[Path]:
    """All layers as files of one folder, under the names in the headers; the paths in the order given."""
    chain = folder / "chain"
    shutil.rmtree(chain, ignore_errors=True)
    try:
        chain.mkdir(mode=0o700)
        for layer in layers:
            fetch(folder, layer, stores[layer.stored.region], progress)
            (chain / layer.name).hardlink_to(part_path(folder, layer))
    except OSError as error:
        raise Permanent(f"work directory {folder}: {error.strerror or error}") from None
    return [chain / layer.name for layer in layers]


def fetch(folder: Path, layer: RemoteLayer, store: ObjectStore, progress: Callable[[int], None]) -> None:
    """Complete the layer's file: what is there is kept, the rest fetched, the whole verified (see `_is_right`).

    A whole file of an earlier run is used only if it still has the hash that was noted then.
    """
    whole = part_path(folder, layer)
    note = whole.with_suffix(".sha256")
    if whole.exists():
        if note.exists() and note.read_text() == _digests(whole)[0]:
            progress(layer.info.size)
            return
        whole.unlink()
    part, seen = whole.with_suffix(".part"), set[str]()
    for _ in range(FETCHES):
        _complete(part, layer, store, progress)
        sha256, md5 = _digests(part)
        if _is_right(layer, sha256, md5) or sha256 in seen:
            note.write_text(sha256)
            part.replace(whole)
            return
        seen.add(sha256)
        part.unlink()
        progress(-layer.info.size)
    raise Permanent(f"layer {layer.name} from {layer.stored.region}: other bytes each time it was fetched")


def _complete(part: Path, layer: RemoteLayer, store: ObjectStore, progress: Callable[[int], None]) -> None:
    with part.open("ab") as file:
        start = _kept(file.tell(), layer)
        file.truncate(start)
        progress(start)
        for piece in pieces(store, layer.info.key, layer.info.size, layer.info.etag, start):
            file.write(piece)
            progress(len(piece))
        file.flush()
        os.fsync(file.fileno())


def _digests(path: Path) -> tuple[str, str]:
    """SHA-256 and MD5 of the file."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(4 * MIB):
            sha256.update(piece)
            md5.update(piece)
    return sha256.hexdigest(), md5.hexdigest()


def _is_right(layer: RemoteLayer, sha256: str, md5: str) -> bool:
    """Are these the object's bytes?

    The id of an imported layer is the beginning of its SHA-256, the ETag of an object that was sent in one piece is its
    MD5. An ETag of that form may also mean nothing (encryption by key): then two fetches that agree will do. All other
    ETags cannot be compared; every range was already bound to the version and its length.
    """
    match = _MD5_ETAG.fullmatch(layer.info.etag)
    return layer.stored.layer_id == sha256[:32] or match is None or match.group(1) == md5
