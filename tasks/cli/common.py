"""What every verb needs: the fleet, output as text or JSON, exit codes."""

import dataclasses
import datetime
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tasks.settings import Fleet, load_fleet

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

_PIPE_WIDTH = 400  # columns where there is no terminal to fit: lines are for grep, not for folding

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
FleetOption = Annotated[
    Path | None, typer.Option("--fleet", help="fleet.toml; default: $CHAINWRIGHT_FLEET or .chainwright/fleet.toml.")
]


def fleet_of(path: Path | None) -> Fleet:
    """The fleet that the option, the environment or the folder names."""
    return load_fleet(path)


def program() -> str:
    """How the caller reached this program, for texts that say what to type next."""
    return sys.argv[0]


def print_json(value: Any) -> None:
    """One JSON document on standard output; dataclasses and dates included.

    ASCII: file names need not be text (Linux), nor need the locale know their letters.
    """
    sys.stdout.write(json.dumps(value, default=_plain, indent=2) + "\n")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)
