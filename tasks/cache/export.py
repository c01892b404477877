"""Starts the NBD exporter of a host: one nbdkit process for all disks that the host reads."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tasks
from tasks import clock
from tasks.cache.nbd.chain_file import MAX_STARTS
from tasks.errors import ConfigError, Permanent, Transient
from tasks.lifeline import tied
from tasks.sockets import accepts
from tasks.units import MIB

_PLUGIN = Path(__file__).parent / "nbd" / "plugin.py"
_ROOT = Path(tasks.__file__).parent.parent
_SOCKET_BYTES = 100


@dataclass(frozen=True, slots=True)
class ChainLayer:
    """One layer of a chain file. `size` and `etag` as the manifest says; region "" = let the cache look it up."""

    layer_id: str
    region: str = ""
    size: int | None = None
    etag: str = ""


@dataclass(frozen=True, slots=True)
class ExporterSettings:
    """One process. `chains` holds `<disk_id>.json` chain files; `socket` is where QEMU connects."""

    url: str
    socket: Path
    chains: Path | None = None
    memory_bytes: int = 128 * MIB
    deadline_seconds: float = 60.0
    timeout_seconds: float = 15.0
    client: str = "guest"
    threads: int = 16  # requests of one connection that are worked on at once


def exporter_argv(settings: ExporterSettings) -> list[str]:
    """The command line, for a service manager. ConfigError if the socket's path is too long for the kernel."""
    if len(str(settings.socket)) > _SOCKET_BYTES:
        raise ConfigError(f"exporter: the socket path {settings.socket} is too long")
    nbdkit = shutil.which("nbdkit") or shutil.which("nbdkit", path="/usr/sbin:/usr/bin")
    if nbdkit is None:
        raise Permanent("exporter: the program `nbdkit` is missing (Debian packages nbdkit, nbdkit-plugin-python)")
    argv = [nbdkit, "--foreground", "--readonly", "--newstyle", "--unix", str(settings.socket)]
    argv += ["--threads", str(settings.threads), "python", str(_PLUGIN), f"root={_ROOT}", f"url={settings.url}"]
    argv += [f"memory={settings.memory_bytes}", f"deadline={settings.deadline_seconds:g}"]
    argv += [f"timeout={settings.timeout_seconds:g}", f"client={settings.client}"]
    return [*argv, f"chains={settings.chains}"] if settings.chains else argv


def write_chain_file(
    folder: Path, disk_id: str, layers: Sequence[ChainLayer], starts: Sequence[tuple[str, int]] = ()
) -> Path:
    """`<folder>/<disk_id>.json`, replaced as a whole: the exporter prefetches these layers' metadata.

    `starts`: (layer id, slice) that the disk's last starts read, first ones first; the exporter reads them ahead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{disk_id}.json"
    new = folder / f".{disk_id}.json.{os.getpid()}"
    record = {"layers": [asdict(layer) for layer in layers], "starts": list(starts)[:MAX_STARTS]}
    new.write_text(json.dumps(record), encoding="utf-8")
    new.replace(path)
    return path


@contextlib.contextmanager
def running_exporter(settings: ExporterSettings, log_file: Path, wait_seconds: float = 30.0) -> Iterator[None]:
    """An exporter for the time of the block; ends with it. Permanent if it does not come up."""
    settings.socket.unlink(missing_ok=True)
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [*tied("TERM"), *exporter_argv(settings)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_for_socket(process, settings.socket, log_file, wait_seconds)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        settings.socket.unlink(missing_ok=True)


def _wait_for_socket(process: "subprocess.Popen[bytes]", socket: Path, log_file: Path, wait_seconds: float) -> None:
    deadline = clock.monotonic() + wait_seconds
    while not accepts(socket):
        if process.poll() is not None:
            tail = " ".join(log_file.read_text(encoding="utf-8", errors="replace").split())[-300:]
            raise Permanent(f"exporter: ended at once: {tail}")
        if clock.monotonic() > deadline:
            raise Transient(f"exporter: no socket {socket} within {wait_seconds:g} s")
        clock.sleep(0.02)
