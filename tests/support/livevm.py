"""A real QEMU whose guest is us: started stopped (`-S`), written to through its monitor's qemu-io."""

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.qemu.qmp import execute, session
from tasks.sockets import accepts


@dataclass(slots=True)
class LiveVm:
    process: "subprocess.Popen[bytes]"
    socket: Path

    @property
    def address(self) -> str:
        return f"unix:{self.socket}"

    def qmp(self, command: str, **arguments: Any) -> Any:
        async def once() -> Any:
            async with session(str(self.socket)) as client:
                return await execute(client, command, **arguments)

        return asyncio.run(once())

    def io(self, command: str) -> str:
        """A qemu-io command on the disk as the guest has it."""
        device = self.qmp("query-block")[0]["qdev"]
        answer = self.qmp("human-monitor-command", **{"command-line": f'qemu-io -d {device} "{command}"'})
        assert "error" not in answer.lower(), answer
        return str(answer)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def quit(self) -> None:
        self.qmp("quit")
        self.process.wait(20)


def chain_nodes(files: Sequence[Path], overlay: Path) -> list[dict[str, Any]]:
    """Local files, base first, read-only under the overlay: what `chainwright blockdev` gives, without the network."""
    nodes: list[dict[str, Any]] = []
    backing: str | None = None
    for number, path in enumerate(files):
        protocol = {"driver": "file", "node-name": f"f{number}", "filename": str(path), "read-only": True}
        image = {"driver": "qcow2", "node-name": f"n{number}", "file": f"f{number}", "read-only": True}
        nodes += [protocol, {**image, "backing": backing}]
        backing = f"n{number}"
    nodes.append({"driver": "file", "node-name": "cw-overlay-file", "filename": str(overlay)})
    nodes.append({"driver": "qcow2", "node-name": "cw-overlay", "file": "cw-overlay-file", "backing": backing})
    return nodes


@contextlib.contextmanager
def live_vm(nodes: Sequence[dict[str, Any]], monitors: int = 1) -> Iterator[LiveVm]:
    folder = Path(tempfile.mkdtemp(prefix="cwvm-", dir="/var/tmp"))
    socket = folder / "qmp.sock"
    argv = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-machine", "q35", "-m", "32"]
    for node in nodes:
        argv += ["-blockdev", json.dumps(node)]
    argv += ["-device", "virtio-blk-pci,drive=cw-overlay,id=disk0", "-qmp", f"unix:{socket},server=on,wait=off"]
    for number in range(1, monitors):
        argv += ["-qmp", f"unix:{folder / f'qmp{number}.sock'},server=on,wait=off"]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while not accepts(socket):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield LiveVm(process, socket)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
