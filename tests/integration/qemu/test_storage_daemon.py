"""A block job is done only when QEMU says so and ends well."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from tasks.errors import ConfigError, Permanent, Transient
from tasks.qemu.process import Limits
from tasks.qemu.qmp import parse_address
from tasks.qemu.storage_daemon import Node, run_block_job
from tests.support.chains import LayerSpec, build

pytestmark = pytest.mark.qemu
MIB = 1 << 20


@pytest.fixture
def nodes(tmp_path: Path) -> list[Node]:
    """A top over a parent of 16 MiB."""
    chain = build(tmp_path, [LayerSpec(16 * MIB, writes=(("write", 0, 16 * MIB, 1),)), LayerSpec(16 * MIB)])
    found: list[Node] = []
    for number, layer in ((1, chain.layers[0]), (0, chain.tip)):
        file: Node = {"driver": "file", "node-name": f"f{number}", "filename": str(chain.path(layer))}
        image: Node = {"driver": "qcow2", "node-name": f"n{number}", "file": f"f{number}"}
        image["backing"] = "n1" if number == 0 else None
        found += [{**file, "read-only": number == 1}, {**image, "read-only": number == 1}]
    return found


def test_progress_is_told(tmp_path: Path, nodes: list[Node]) -> None:
    told: list[tuple[int, int]] = []
    slow = {"speed": 6 * MIB}
    run_block_job(tmp_path, nodes, "block-stream", on_progress=lambda *now: told.append(now), device="n0", **slow)
    assert told
    assert all(0 <= done <= total == 16 * MIB for done, total in told)


def test_a_node_that_cannot_be_opened(tmp_path: Path, nodes: list[Node]) -> None:
    broken = [{**nodes[0], "filename": str(tmp_path / "missing")}, *nodes[1:]]
    with pytest.raises(Permanent, match="No such file"):
        run_block_job(tmp_path, broken, "block-stream", device="n0")


def test_a_command_that_is_refused(tmp_path: Path, nodes: list[Node]) -> None:
    with pytest.raises(Permanent, match="Cannot find device"):
        run_block_job(tmp_path, nodes, "block-stream", device="nobody")


def test_no_end_in_time(tmp_path: Path, nodes: list[Node]) -> None:
    limits = Limits(timeout_seconds=1.0)
    with pytest.raises(Transient, match="no end after 1 s"):
        run_block_job(tmp_path, nodes, "block-stream", limits=limits, device="n0", speed=65536)


def test_a_daemon_that_dies(tmp_path: Path, nodes: list[Node]) -> None:
    def kill() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for process in psutil.process_iter(["name", "cmdline"]):
                words = process.info["cmdline"] or []
                if process.info["name"] == "qemu-storage-daemon" and any(str(tmp_path) in word for word in words):
                    time.sleep(0.5)
                    os.kill(process.pid, signal.SIGKILL)
                    return
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises((Transient, Permanent), match=r"went away|ended with|not up|connection lost|no answer"):
        run_block_job(tmp_path, nodes, "block-stream", device="n0", speed=65536)
    killer.join()


def test_addresses_of_heads() -> None:
    assert parse_address("unix:/run/vm.sock") == "/run/vm.sock"
    assert parse_address("tcp:10.0.0.1:4444") == ("10.0.0.1", 4444)
    for wrong in ("", "unix:", "tcp:host", "tcp:host:0", "http://x"):
        with pytest.raises(ConfigError):
            parse_address(wrong)
