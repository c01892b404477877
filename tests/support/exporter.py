"""An exporter for a test, and QEMU arguments that read a chain through it."""

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.cache.blockdev import blockdev_nodes
from tasks.cache.export import ChainLayer, ExporterSettings, running_exporter, write_chain_file
from tasks.sockets import accepts
from tests.support.cache_server import wait_until


@dataclass(slots=True)
class Exporter:
    socket: Path
    log: Path
    chains: Path

    def uri(self, export: str) -> str:
        return f"nbd+unix:///{export}?socket={self.socket}"


@contextlib.contextmanager
def exporter(
    url: str,
    chains: dict[str, Sequence[ChainLayer]] | None = None,
    starts: Sequence[tuple[str, int]] = (),
    **settings: Any,
) -> Iterator[Exporter]:
    base = Path(tempfile.mkdtemp(prefix="cwx-", dir="/var/tmp"))
    folder = base / "chains"
    folder.mkdir()
    for disk, layers in (chains or {}).items():
        write_chain_file(folder, disk, layers, starts)
    one = Exporter(base / "nbd.sock", base / "log", folder)
    try:
        with running_exporter(ExporterSettings(url, one.socket, folder, **settings), one.log):
            yield one
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def opened_chain(layers: Sequence[str], disk: str, exporter_socket: Path) -> Iterator[str]:
    """A storage daemon that opens the printed nodes; the URI of the tip's guest view."""
    with opened_nodes(blockdev_nodes(layers, disk, exporter_socket)) as uri:
        yield uri


@contextlib.contextmanager
def opened_nodes(nodes: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The same for any nodes; the last one is `cw-tip`."""
    base = Path(tempfile.mkdtemp(prefix="cwq-", dir="/var/tmp"))
    socket = base / "tip.sock"
    argv = ["qemu-storage-daemon", *[part for node in nodes for part in ("--blockdev", json.dumps(node))]]
    argv += ["--nbd-server", f"addr.type=unix,addr.path={socket}"]
    argv += ["--export", "type=nbd,id=e,node-name=cw-tip,name=tip"]
    daemon = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: accepts(socket) or daemon.poll() is not None, 120)
        if daemon.poll() is not None:
            raise RuntimeError(daemon.stderr.read() if daemon.stderr else "")
        yield f"nbd+unix:///tip?socket={socket}"
    finally:
        daemon.terminate()
        daemon.wait(20)
        shutil.rmtree(base, ignore_errors=True)


def guest_bytes(uri: str, out: Path) -> bytes:
    """The whole guest view."""
    subprocess.run(["nbdcopy", uri, str(out)], check=True, timeout=300)
    return out.read_bytes()
