"""`chainwright`: the verbs, and one clear line for every error."""

import importlib
import io
import os
import sys

import typer
from rich.markup import escape

from tasks.cli.common import EXIT_FAILED, err
from tasks.errors import ChainwrightError

# One module per verb (or group of verbs); each has `register(app)`. They import their stage inside the verb's body,
# so that `--help` is instant.
VERBS: tuple[str, ...] = (
    "blockdev",
    "cache_config",
    "demo",
    "dev",
    "doctor",
    "down",
    "export",
    "head",
    "import_",
    "inspect",
    "live",
    "maintain",
    "plan",
    "query",
    "reads",
    "retire",
    "scan",
    "sql_",
    "status",
    "up",
    "warm",
)

app = typer.Typer(
    name="chainwright",
    help="Keeps globally distributed QCOW2 chains short, local and cheap.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    """Exit codes: 0 done, 1 refused or failed, 2 wrong usage."""


def main() -> None:
    """Entry point of the console script."""
    for verb in VERBS:
        importlib.import_module(f"tasks.cli.{verb}").register(app)
    _print_anything()
    try:
        app()
    except ChainwrightError as error:
        err.print(f"[red]chainwright:[/red] {escape(' '.join(str(error).split()))}")
        sys.exit(EXIT_FAILED)
    except OSError as error:  # a full disk, a folder that cannot be made: the system says what and where
        where = f"{error.filename}: " if error.filename else ""
        err.print(f"[red]chainwright:[/red] {escape(where + (error.strerror or str(error)))}")
        _forget_output()
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        err.print("chainwright: interrupted")
        sys.exit(130)


def _print_anything() -> None:
    """A character that the terminal's encoding lacks is printed as its escape, not as an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_output() -> None:
    """What standard output could not take must not be tried again, and complained of, at the exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
