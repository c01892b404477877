"""Run `chainwright` as a user does: a process, its exit code and what it printed."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.cli import main as main_module
from tasks.settings import Fleet

REPO = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0 or self.out, self.err
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one line that a failed run prints on standard error; anything else fails the test."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert self.code == 1, (self.code, self.out, self.err)
        assert len(lines) == 1, self.err
        assert lines[0].startswith("chainwright: "), self.err
        return lines[0]


def write_fleet_toml(fleet: Fleet, path: Path, **changes: Any) -> Path:
    """The fleet as a fleet.toml; `changes` replace top-level values."""
    raw = {**fleet.model_dump(mode="json", exclude_none=True), **changes}
    path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in raw.items()))
    return path


def _toml(value: Any) -> str:
    """Inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)


def chainwright(*args: str | Path, env: dict[str, str] | None = None, timeout: float = 120) -> Ran:
    """`chainwright ARGS`, to the end."""
    code = "import sys; from tasks.cli.main import main; sys.exit(main())"
    argv = [sys.executable, "-c", code, *map(str, args)]
    full = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **(env or {})}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=REPO, env=full, timeout=timeout, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def chainwright_here(*args: str | Path) -> Ran:
    """As `chainwright`, in this process: for tables of cases. An error that is not ours comes out as it is."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _arguments(args):
        try:
            main_module.main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
    return Ran(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _arguments(args: tuple[str | Path, ...]) -> Iterator[None]:
    """sys.argv for one call; the verbs are registered by the first call of this process only."""
    before, verbs = sys.argv, main_module.VERBS
    sys.argv = ["chainwright", *map(str, args)]
    if main_module.app.registered_groups or len(main_module.app.registered_commands) > 1:
        main_module.VERBS = ()
    try:
        yield
    finally:
        sys.argv, main_module.VERBS = before, verbs
