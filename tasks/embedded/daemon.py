"""One background process with a pid file: started detached, found again, ended by id and nothing else.

The pid file holds `pid create_time`: a pid that was given to another process since is never signalled.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.errors import Permanent


@dataclass(frozen=True, slots=True)
class Daemon:
    """`name` for messages; `pid_file` and `log_file` in the state directory."""

    name: str
    pid_file: Path
    log_file: Path

    def process(self) -> psutil.Process | None:
        """The running process that this pid file names, or None."""
        try:
            pid, created = self.pid_file.read_text().split()
            process = psutil.Process(int(pid))
            same = abs(process.create_time() - float(created)) < 0.01
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None

    def start(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> None:
        """Start it in a session of its own, so that it outlives the caller; no-op if it runs."""
        if self.process() is not None:
            return
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            try:
                child = subprocess.Popen(
                    argv,
                    env=dict(env),
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                raise Permanent(f"{self.name}: cannot start {argv[0]}: {error.strerror}") from None
        created = psutil.Process(child.pid).create_time()
        self.pid_file.write_text(f"{child.pid} {created!r}\n")

    def stop(self, wait_seconds: float = 15.0) -> bool:
        """Terminate, then kill, the process and its children; False if it did not run."""
        process = self.process()
        if process is not None:
            family = [process, *process.children(recursive=True)]
            process.terminate()
            psutil.wait_procs([process], timeout=wait_seconds)
            for left in family:
                if left.is_running():
                    left.kill()
            psutil.wait_procs(family, timeout=5)
        self.pid_file.unlink(missing_ok=True)
        return process is not None

    def log_tail(self, lines: int = 5) -> str:
        """The last lines of the log, for an error message."""
        try:
            return " | ".join(self.log_file.read_text(errors="replace").split("\n")[-lines - 1 :]).strip(" |")
        except OSError:
            return ""
