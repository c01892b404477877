"""Ending what was started, all of it and nothing else.

Airflow forks workers, which fork supervisors, which fork tasks, which start qemu in sessions of their own; and a parent
that was killed leaves its children behind. So a component's family is everything that is its recorded process, descends
from it, is in its session, or carries the state directory in its environment. Pids that were given to others since are
told apart by their start time.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from tasks.embedded.daemon import Daemon
from tasks.embedded.state import ENV_MARKER


def family(daemons: Iterable[Daemon], state_dir: Path) -> list[psutil.Process]:
    """Every living process that belongs to one of the daemons, or that was started for this state directory."""
    found: dict[int, psutil.Process] = {}
    sessions: set[int] = set()
    for daemon in daemons:
        leader = daemon.process()
        if leader is not None:
            found[leader.pid] = leader
            found.update((child.pid, child) for child in _children(leader))
        sessions.update(_session(daemon))
    for process in psutil.process_iter():
        if process.pid not in found and (_in_session(process, sessions) or _is_marked(process, state_dir)):
            found[process.pid] = process
    found.pop(os.getpid(), None)
    return [process for process in found.values() if process.is_running()]


def orphans(daemons: Iterable[Daemon]) -> list[psutil.Process]:
    """What daemons that were killed left in their sessions: nginx's workers, say, which still hold the port."""
    sessions: set[int] = set()
    for daemon in daemons:
        if daemon.process() is None:
            sessions.update(_session(daemon))
    return [process for process in psutil.process_iter() if _in_session(process, sessions)]


def end(processes: list[psutil.Process], wait_seconds: float) -> int:
    """SIGTERM to each, SIGKILL to those left after the time; how many there were."""
    for process in processes:
        _quietly(process.terminate)
    _, left = psutil.wait_procs(processes, timeout=wait_seconds)
    for process in left:
        _quietly(process.kill)
    psutil.wait_procs(left, timeout=5)
    return len(processes)


def _session(daemon: Daemon) -> set[int]:
    """The session that the daemon leads or led; empty if its number belongs to a stranger now."""
    try:
        pid = int(daemon.pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return set()
    if psutil.pid_exists(pid) and daemon.process() is None and not _is_zombie(pid):
        return set()
    return {pid}  # the kernel gives no number to a new process while a session still has it


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _in_session(process: psutil.Process, sessions: set[int]) -> bool:
    try:
        return os.getsid(process.pid) in sessions
    except OSError:
        return False


def _is_marked(process: psutil.Process, state_dir: Path) -> bool:
    try:
        return bool(process.environ().get(ENV_MARKER) == str(state_dir))
    except (psutil.Error, OSError):
        return False


def _quietly(signal: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        signal()
