"""Processes that stand for other machines: they get only what the processes of this one leave.

SCHED_IDLE alone is not enough: Linux shares the processor among sessions first (autogroups), and a session is not idle
because its processes are. So they go into a control group that is (`cpu.idle`, which only root may make).
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_TREES = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup"))  # version 1, version 2


@contextlib.contextmanager
def elsewhere(argv: Sequence[str], *, idle: bool = True) -> Iterator[None]:
    """Run it for the time of the block; without `idle` as any other process."""
    group = _idle_group() if idle else None
    start: list[str] = []
    if idle and group is None:
        sys.stderr.write("no idle control group: what stands for other machines takes part of this one's processor\n")
        start = ["chrt", "--idle", "0"]
    elif group is not None:
        start = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(group / "cgroup.procs")]
    process = subprocess.Popen([*start, *argv])
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)
        if group is not None:
            group.rmdir()


def _idle_group() -> Path | None:
    for tree in _TREES:
        group = tree / f"cw-elsewhere-{os.getpid()}-{os.urandom(2).hex()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            if (group / "cpu.idle").exists():
                (group / "cpu.idle").write_text("1")
                return group
            group.rmdir()
    return None
