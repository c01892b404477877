"""Sparse images for QEMU that fail closed: one nbdkit process, one export per image, over a Unix socket.

QEMU's processes run in the same folder as the guard and reach it under a path that is short whatever the folder's name
is (a socket's path has at most 107 bytes).
"""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.chain.extent import Ranges, ranges_of
from tasks.errors import Permanent, Transient
from tasks.qemu.accepted import AcceptedImage
from tasks.qemu.process import DEFAULT_LIMITS, Limits, Sandbox, kill_group, spawn
from tasks.retry import until_up
from tasks.sockets import accepts, short_path

PLUGIN = Path(__file__).with_name("guard_plugin.py")
SOCKET_NAME = "guard.sock"
SOCKET = f"/proc/self/cwd/{SOCKET_NAME}"  # as QEMU's processes in the folder see it
_START_SECONDS = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Export:
    """An image in the guard's folder. `size` may exceed the file's: room for a writable image to grow."""

    name: str
    image: AcceptedImage
    size: int
    held: Ranges
    writable: bool = False


def url(name: str) -> str:
    """The export as a QEMU file name, for use in a backing name."""
    return f"nbd+unix:///{name}?socket={SOCKET}"


def blockdev(name: str) -> dict[str, object]:
    """The export as a QEMU protocol node."""
    return {"driver": "nbd", "server": {"type": "unix", "path": SOCKET}, "export": name}


@contextlib.contextmanager
def serve(folder: Path, exports: Sequence[Export], limits: Limits = DEFAULT_LIMITS) -> Iterator[None]:
    """The guard runs inside the block. All images are files in `folder`; afterwards `written` tells what changed."""
    if any(export.image.path.parent != folder for export in exports):
        raise Permanent("guard: an image is outside its folder")
    table = {
        export.name: {
            "file": export.image.path.name,
            "size": export.size,
            "writable": export.writable,
            "held": export.held.pairs(),
        }
        for export in exports
    }
    (folder / "exports.json").write_text(json.dumps(table))
    (folder / SOCKET_NAME).unlink(missing_ok=True)
    argv = ["nbdkit", "--foreground", "--unix", SOCKET]
    argv += ["python", str(PLUGIN), f"dir={folder}"]
    sandbox = Sandbox(read=(PLUGIN,), write=(folder,))
    with spawn(argv, sandbox=sandbox, limits=limits, cwd=folder) as child:
        try:
            until_up(_START_SECONDS)(_check_up, child, folder)
            yield
        finally:
            _end(child)


def written(image: AcceptedImage) -> Ranges:
    """What was written through the guard."""
    log = image.path.with_name(image.path.name + ".written")
    if not log.exists():
        return ranges_of(np.empty(0, np.int64), np.empty(0, np.int64))
    table = np.array(log.read_text().split(), dtype=np.int64).reshape(-1, 2)
    return ranges_of(table[:, 0], table[:, 1])


def _check_up(child: "subprocess.Popen[bytes]", folder: Path) -> None:
    if child.poll() is not None:
        stderr = child.stderr.read().decode("utf-8", "replace") if child.stderr else ""
        raise Permanent(f"guard: nbdkit ended with {child.returncode}: {' '.join(stderr.split())[-500:]}")
    with short_path(folder / SOCKET_NAME) as address:
        if not accepts(address):
            raise Transient("guard: not up yet")


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Ask nbdkit to close its exports (which writes the logs out), then make sure."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(10)
    kill_group(child)
