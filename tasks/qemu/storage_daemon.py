"""qemu-storage-daemon on a private QMP socket: a full tree of block nodes, so that no name in a header is followed."""

import asyncio
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.errors import Permanent, Transient
from tasks.qemu.blockjob import JobProgress, run_job
from tasks.qemu.process import DEFAULT_LIMITS, Limits, Sandbox, kill_group, spawn
from tasks.qemu.qmp import execute, session
from tasks.retry import until_up
from tasks.sockets import accepts, short_path

_SOCKET_NAME = "qmp.sock"
_START_SECONDS = 20.0
_QUIT_SECONDS = 30.0

Node = dict[str, Any]


def run_block_job(
    folder: Path,
    nodes: Sequence[Node],
    command: str,
    *,
    limits: Limits = DEFAULT_LIMITS,
    on_progress: JobProgress | None = None,
    **arguments: Any,
) -> None:
    """Open the nodes, run one job on them, close everything orderly. Permanent or Transient unless all of it worked.

    The daemon must have ended with exit code 0 after `quit`: only then is everything written out.
    """
    argv = ["qemu-storage-daemon"]
    for node in nodes:
        argv += ["--blockdev", json.dumps(node)]
    argv += ["--chardev", f"socket,id=qmp,path=/proc/self/cwd/{_SOCKET_NAME},server=on,wait=off"]
    argv += ["--monitor", "chardev=qmp,mode=control"]
    (folder / _SOCKET_NAME).unlink(missing_ok=True)
    with spawn(argv, sandbox=Sandbox(write=(folder,)), limits=limits, cwd=folder) as child:
        until_up(_START_SECONDS)(_check_up, child, folder)
        with short_path(folder / _SOCKET_NAME) as address:
            asyncio.run(_drive(address, command, limits, on_progress, arguments))
        _expect_end(child, command)


async def _drive(
    address: str, command: str, limits: Limits, on_progress: JobProgress | None, arguments: dict[str, Any]
) -> None:
    async with session(address) as client:
        await run_job(
            client, command, "merge", timeout_seconds=limits.timeout_seconds, on_progress=on_progress, **arguments
        )
        await execute(client, "quit")


def _check_up(child: "subprocess.Popen[bytes]", folder: Path) -> None:
    if child.poll() is not None:
        raise Permanent(f"qemu-storage-daemon ended with {child.returncode}: {_words(child)}")
    with short_path(folder / _SOCKET_NAME) as address:
        if not accepts(address):
            raise Transient("qemu-storage-daemon is not up yet")


def _expect_end(child: "subprocess.Popen[bytes]", command: str) -> None:
    try:
        code = child.wait(_QUIT_SECONDS)
    except subprocess.TimeoutExpired:
        kill_group(child)
        raise Transient(f"job {command}: qemu-storage-daemon did not end after quit") from None
    if code != 0:
        raise Permanent(f"job {command}: qemu-storage-daemon ended with {code}: {_words(child)}")


def _words(child: "subprocess.Popen[bytes]") -> str:
    return " ".join(child.stderr.read().decode("utf-8", "replace").split())[-500:] if child.stderr else ""
