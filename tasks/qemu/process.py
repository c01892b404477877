"""Run a tool on data that tenants wrote: limited, sandboxed where the host allows it, and never left behind.

Limits are set by the `prlimit` program (no code runs between fork and exec). With `bwrap` the tool sees only the
folders that it is given and no network (an unprivileged container may not allow it). A worker that is killed takes its
tools along either way.
"""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.errors import Permanent
from tasks.lifeline import WHILE_INPUT_IS_OPEN, open_while_alive, tied
from tasks.units import GIB

STDERR_TAIL = 800  # characters of a tool's complaint that an error carries
_KILLED_BY_LIMIT = {signal.SIGXCPU, signal.SIGKILL, signal.SIGXFSZ}
_SYSTEM_FOLDERS = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/lib32",
    "/libx32",
    "/etc/ld.so.cache",
    "/etc/alternatives",
)


class ToolFailed(Permanent):
    """A tool ended with an exit code that means failure."""

    def __init__(self, program: str, returncode: int, stderr: str) -> None:
        text = " ".join(stderr[-STDERR_TAIL:].split())
        super().__init__(f"{program} ended with {returncode}: {text or 'no message'}")
        self.program = program
        self.returncode = returncode
        self.stderr = stderr


class ToolTimedOut(ToolFailed):
    """A tool ran longer than its limit of wall-clock time and was killed with all its children."""


class ToolKilled(ToolFailed):
    """A tool died by a signal: a limit (CPU, memory, file size) or a crash of its own."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run of a tool may use. Bytes and seconds."""

    timeout_seconds: float = 3600.0
    cpu_seconds: int = 3600
    memory_bytes: int = 4 * GIB  # address space: about 40 MiB per link of a chain, plus QEMU itself
    nofile: int = 4096  # one descriptor per link of a chain


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The folders and files that a tool may see, besides the system's programs."""

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a tool that was not killed."""

    returncode: int
    stdout: bytes
    stderr: str = field(default="")


def run(
    argv: Sequence[str],
    *,
    sandbox: Sandbox,
    limits: Limits = DEFAULT_LIMITS,
    cwd: Path | None = None,
    ok: Sequence[int] = (0,),
) -> Finished:
    """Run to the end. Exit codes outside `ok` raise ToolFailed; time-outs and signals raise its subclasses."""
    with spawn(argv, sandbox=sandbox, limits=limits, cwd=cwd) as child:
        try:
            stdout, stderr = child.communicate(timeout=limits.timeout_seconds)
        except subprocess.TimeoutExpired:
            kill_group(child)
            raise ToolTimedOut(argv[0], -signal.SIGKILL, f"no end after {limits.timeout_seconds:g} s") from None
    text = stderr.decode("utf-8", "replace")
    died = _signal_of(child.returncode)
    if died is not None:
        why = "over its limit" if died in _KILLED_BY_LIMIT else "crashed"
        raise ToolKilled(argv[0], child.returncode, f"{why} ({signal.Signals(died).name}) {text}")
    if child.returncode not in ok:
        raise ToolFailed(argv[0], child.returncode, text)
    return Finished(child.returncode, stdout, text)


@contextlib.contextmanager
def spawn(
    argv: Sequence[str], *, sandbox: Sandbox, limits: Limits = DEFAULT_LIMITS, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A running tool; leaving the block kills it and its children if they are still there."""
    with open_while_alive() as held:
        child = subprocess.Popen(
            [*tied("KILL"), *_walls(sandbox, cwd), *WHILE_INPUT_IS_OPEN, *_prlimit(limits), *argv],
            stdin=held,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"},
            start_new_session=True,
        )
        try:
            yield child
        finally:
            kill_group(child)
            for stream in (child.stdout, child.stderr):
                if stream is not None:
                    stream.close()


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the whole process group, then collect it. Harmless when it has already ended."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def sandbox_works() -> bool:
    """May this host's user make the namespaces that bwrap needs?"""
    return bool(_namespaces())


@functools.cache
def _namespaces() -> tuple[str, ...]:
    """How a call of bwrap begins on this host; empty if none works.

    Container engines hide parts of /proc, and then the kernel lets nobody mount a new one: tools do without.
    """
    bare = ("bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--dev", "/dev")
    if shutil.which("bwrap") is None:
        return ()
    for begin in ((*bare, "--proc", "/proc"), bare):
        probe = ["bwrap", "--ro-bind", "/", "/", *begin[1:], "true"]
        if subprocess.run(probe, capture_output=True, check=False, timeout=30).returncode == 0:
            return begin
    return ()


def _walls(sandbox: Sandbox, cwd: Path | None) -> list[str]:
    argv = list(_namespaces())
    if not argv:
        return []
    if "--proc" not in argv:
        argv += ["--symlink", str(cwd or "/"), "/proc/self/cwd"]  # all that our tools use of /proc: short socket paths
    for folder in _SYSTEM_FOLDERS:
        path = Path(folder)
        if path.is_symlink():
            argv += ["--symlink", os.fspath(path.readlink()), folder]
        else:
            argv += ["--ro-bind-try", folder, folder]
    argv += ["--tmpfs", "/tmp"]  # noqa: S108 - a private one
    for bind, paths in (("--ro-bind", sandbox.read), ("--bind", sandbox.write)):
        for path in paths:
            argv += [bind, str(path), str(path)]
    return [*argv, "--chdir", str(cwd or "/")]


def _prlimit(limits: Limits) -> list[str]:
    return [
        "prlimit",
        f"--as={limits.memory_bytes}",
        f"--cpu={limits.cpu_seconds}",
        f"--nofile={limits.nofile}",
        "--core=0",
        "--",
    ]


def _signal_of(returncode: int) -> int | None:
    """bwrap and shells report a signal as 128 + n, Popen as -n."""
    number = -returncode if returncode < 0 else returncode - 128
    return number if 0 < number <= signal.SIGRTMAX and (returncode < 0 or returncode > 128) else None
