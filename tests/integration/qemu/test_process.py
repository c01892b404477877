"""Tools are limited, sandboxed and never left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tasks.lifeline import WHILE_INPUT_IS_OPEN, open_while_alive, tied
from tasks.qemu.process import Limits, Sandbox, ToolFailed, ToolKilled, ToolTimedOut, run, sandbox_works, spawn

pytestmark = pytest.mark.qemu


def test_exit_code_and_message_are_kept(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match=r"qemu-img ended with 1: .*no-such-file") as caught:
        run(["qemu-img", "info", "-f", "qcow2", str(tmp_path / "no-such-file")], sandbox=Sandbox(read=(tmp_path,)))
    assert caught.value.returncode == 1


def test_listed_exit_codes_are_results() -> None:
    assert run(["sh", "-c", "exit 3"], sandbox=Sandbox(), ok=(0, 3)).returncode == 3


def test_timeout_kills_the_whole_group(tmp_path: Path) -> None:
    marker = f"77.{os.getpid()}"
    with pytest.raises(ToolTimedOut, match=r"no end after 0\.5 s"):
        run(["sh", "-c", f"sleep {marker} & sleep {marker}"], sandbox=Sandbox(), limits=Limits(timeout_seconds=0.5))
    deadline = time.monotonic() + 60
    while _alive(marker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(marker)


def test_cpu_limit() -> None:
    with pytest.raises(ToolKilled, match="over its limit"):
        run(["sh", "-c", "while :; do :; done"], sandbox=Sandbox(), limits=Limits(cpu_seconds=1, timeout_seconds=60))


def test_memory_limit() -> None:
    hungry = ["python3", "-c", "bytearray(1 << 30)"]
    with pytest.raises(ToolFailed, match="MemoryError"):
        run(hungry, sandbox=Sandbox(), limits=Limits(memory_bytes=256 << 20))


def test_descriptor_limit() -> None:
    greedy = ["python3", "-c", "import os; [os.open('/dev/null', 0) for _ in range(100)]"]
    with pytest.raises(ToolFailed, match="Too many open files"):
        run(greedy, sandbox=Sandbox(), limits=Limits(nofile=64))


def test_a_killed_worker_takes_its_tools_along(tmp_path: Path) -> None:
    marker = f"78.{os.getpid()}"
    code = f"from tasks.qemu.process import run, Sandbox\nrun(['sleep', '{marker}'], sandbox=Sandbox())\n"
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=Path.cwd())
    while not _alive(marker):
        time.sleep(0.02)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    deadline = time.monotonic() + 60
    while _alive(marker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(marker)


def test_a_tool_whose_worker_died_before_it_was_tied_does_not_start(tmp_path: Path) -> None:
    code = "import json; from tasks.lifeline import tied; print(json.dumps(tied('KILL')))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)  # by a worker that is gone
    orphan = subprocess.run([*json.loads(told.stdout), "touch", str(tmp_path / "started")], check=False)
    assert orphan.returncode != 0
    assert not (tmp_path / "started").exists()
    subprocess.run([*tied("KILL"), "touch", str(tmp_path / "started")], check=True)
    assert (tmp_path / "started").exists()


def test_a_tool_whose_worker_died_before_bwrap_was_tied_does_not_start(tmp_path: Path) -> None:
    argv = [*WHILE_INPUT_IS_OPEN, "touch", str(tmp_path / "started")]
    with open_while_alive() as held:
        orphan = os.dup(held)
        subprocess.run(argv, stdin=held, check=True)
    assert (tmp_path / "started").exists()
    (tmp_path / "started").unlink()
    assert subprocess.run(argv, stdin=orphan, check=False).returncode == 1
    os.close(orphan)
    assert not (tmp_path / "started").exists()


def test_only_given_folders_are_visible(tmp_path: Path) -> None:
    if not sandbox_works():
        pytest.skip("bwrap cannot make namespaces here")
    (tmp_path / "given").mkdir()
    (tmp_path / "secret").write_text("x")
    sandbox = Sandbox(read=(tmp_path / "given",))
    run(["test", "!", "-e", str(tmp_path / "secret")], sandbox=sandbox)
    run(["test", "!", "-e", "/etc/passwd"], sandbox=sandbox)
    with pytest.raises(ToolFailed):
        run(["touch", str(tmp_path / "given" / "new")], sandbox=sandbox)


_IN_A_CONTAINER = """
import sys
from pathlib import Path
from tasks.qemu.process import Sandbox, run, sandbox_works
folder = Path(sys.argv[1])
assert sandbox_works()
sandbox = Sandbox(write=(folder,))
run(["qemu-img", "create", "-q", "-f", "qcow2", str(folder / "a.qcow2"), "1M"], sandbox=sandbox)
run(["qemu-img", "check", "-q", "-f", "qcow2", str(folder / "a.qcow2")], sandbox=sandbox)
run(["test", "!", "-e", "/etc/passwd"], sandbox=sandbox)
"""


def test_tools_are_confined_where_a_container_engine_hides_parts_of_proc(tmp_path: Path) -> None:
    """The kernel then refuses a new /proc to bwrap: as Docker with open seccomp, Podman and Kubernetes do it."""
    hidden = 'mount --bind /dev/null /proc/timer_list && exec "$@"'
    unshare = ["unshare", "--mount", "sh", "-c", hidden, "sh"]
    if not sandbox_works() or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root, and bwrap")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", _IN_A_CONTAINER, str(tmp_path)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_spawn_ends_with_its_block() -> None:
    with spawn(["sleep", "79"], sandbox=Sandbox()) as child:
        assert child.poll() is None
    assert child.returncode is not None


def _alive(argument: str) -> bool:
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and (process.info["cmdline"] or [])[-2:] == [
            "sleep",
            argument,
        ]:
            return True
    return False
