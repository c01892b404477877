"""Private folders in the work directory, with their space reserved across processes.

Layout of `fleet.work_dir`:

    reserve.lock            taken (flock) while a reservation is made or given back
    <name>.d/               the folder of one attempt, mode 0700
    <name>.reserve          JSON: bytes; its owner holds a flock on it for as long as it lives

A reservation whose lock can be taken belongs to a dead process: whoever looks next removes it with its folder. So a
worker killed by the kernel leaves nothing for longer than until the next action on the same host.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tasks.errors import Permanent, Transient
from tasks.units import MIB, human_bytes

MARGIN_BYTES = 64 * MIB  # left free for everything else on the file system


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder of one attempt and the bytes that it may hold."""

    path: Path
    reserved_bytes: int


@contextlib.contextmanager
def reserve(work_dir: Path, name: str, count_bytes: int, cap_bytes: int = 0) -> Iterator[Workspace]:
    """A private folder with `count_bytes` kept free for it; removed at the end, whatever happens.

    Permanent when the file system could not hold it even alone; Transient when others hold the space, or when the sum
    of all reservations would exceed `cap_bytes` (0: no cap). Nothing is made in either case.
    """
    try:
        work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(work_dir / "reserve.lock"):
            others = _live_reservations(work_dir)
            _check_space(work_dir, count_bytes, others, cap_bytes)
            ticket = _take(work_dir / f"{name}.reserve", count_bytes)
    except OSError as error:
        raise Permanent(f"work directory {work_dir}: {error.strerror or error}") from None
    folder = work_dir / f"{name}.d"
    try:
        folder.mkdir(mode=0o700)
        yield Workspace(folder, count_bytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            Path(ticket.name).unlink()
        ticket.close()


def _check_space(work_dir: Path, count_bytes: int, others: dict[Path, int], cap_bytes: int) -> None:
    free = shutil.disk_usage(work_dir).free - MARGIN_BYTES
    reserved = sum(others.values())
    used = sum(_size_of(path.with_suffix(".d")) for path in others)
    where = f"work directory {work_dir}"
    if count_bytes > free + used:
        raise Permanent(
            f"{where}: needs {human_bytes(count_bytes)}, the file system has {human_bytes(max(0, free))} free"
        )
    if cap_bytes and count_bytes > cap_bytes:
        raise Permanent(f"{where}: needs {human_bytes(count_bytes)}, work_bytes allows {human_bytes(cap_bytes)}")
    if count_bytes > free + used - reserved or (cap_bytes and reserved + count_bytes > cap_bytes):
        raise Transient(f"{where}: {human_bytes(count_bytes)} wanted, other actions hold {human_bytes(reserved)}")


def _live_reservations(work_dir: Path) -> dict[Path, int]:
    """Reservations of living processes; those of dead ones are removed together with their folders."""
    live: dict[Path, int] = {}
    for path in sorted(work_dir.glob("*.reserve")):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:  # its owner may just be leaving
            if _try_lock(file):
                shutil.rmtree(path.with_suffix(".d"), ignore_errors=True)
                path.unlink()
            else:
                live[path] = int(json.loads(file.read() or b"0"))
    return live


def _take(path: Path, count_bytes: int) -> IO[bytes]:
    file = path.open("x+b")
    if not _try_lock(file):
        raise AssertionError(f"{path}: a new file is locked")
    file.write(json.dumps(count_bytes).encode())
    file.flush()
    return file


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _size_of(folder: Path) -> int:
    """Bytes really taken on disk (sparse files count by their blocks)."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(root) / name).stat().st_blocks * 512
    return total
