"""`chainwright sql`: DuckDB over the current manifest, read-only."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from tasks.cli.common import FleetOption, JsonOption, err, fleet_of, out, print_json
from tasks.cli.query import SHOWN, ManifestOption, defaults_of, print_table

if TYPE_CHECKING:
    from tasks.analytics.session import Session

HELP = """End a statement with ; and Enter.
[bold].tables[/bold] datasets and views   [bold].queries[/bold] the named queries, each a macro: FROM chain_length();
[bold].quit[/bold] or Ctrl-D leaves"""


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("sql")
    def sql(
        command: Annotated[str | None, typer.Option("-c", "--command", help="Run this and leave.")] = None,
        limit: Annotated[int, typer.Option(min=1, help="Rows that a table shows.")] = SHOWN,
        csv: Annotated[bool, typer.Option("--csv", help="Print CSV (with -c).")] = False,
        manifest: ManifestOption = None,
        fleet: FleetOption = None,
        json: JsonOption = False,
    ) -> None:
        """DuckDB over the manifest: its datasets as views, every query as a macro. Nothing can be changed."""
        from tasks.analytics.session import Session
        from tasks.stages import findings

        folder = findings.prepared(manifest, None) if manifest else findings.staged_for(fleet_of(fleet), None)
        with Session(folder, defaults_of(manifest, fleet)) as session:
            if command is not None:
                _once(session, command, limit, csv=csv, json=json)
            elif sys.stdin.isatty():
                _talk(session, limit, folder)
            else:
                _once(session, sys.stdin.read(), limit, csv=csv, json=json)


def _once(session: "Session", text: str, limit: int, *, csv: bool, json: bool) -> None:
    for table in session.run(text):
        _show(table, limit, csv=csv, json=json)


def _show(table: Any, limit: int, *, csv: bool = False, json: bool = False) -> None:
    from tasks.analytics import queries

    if csv:
        queries.write_csv(table)
    elif json:
        print_json(queries.rows_of(table).dicts())
    else:
        print_table(queries.rows_of(table.slice(0, limit)), table.num_rows)


def _talk(session: "Session", limit: int, folder: Path) -> None:
    """Read statements until the end of input. An error is told and the session goes on."""
    import readline  # noqa: F401 - gives input() history and editing

    err.print(f"manifest {escape(folder.name)}, read-only. .help helps, .quit leaves.")
    pending: list[str] = []
    while True:
        try:
            line = input("   ...> " if pending else "chainwright> ")
        except EOFError:
            return
        except KeyboardInterrupt:
            pending = []
            err.print()
            continue
        if not pending and line.strip().startswith("."):
            if not _meta(session, line.strip()):
                return
            continue
        pending.append(line)
        if line.rstrip().endswith(";"):
            _try(session, "\n".join(pending), limit)
            pending = []


def _meta(session: "Session", line: str) -> bool:
    """A command of the shell itself; False to leave."""
    from tasks.analytics import queries

    if line in (".quit", ".exit", ".q"):
        return False
    if line == ".tables":
        _try(session, "SELECT name FROM (SHOW TABLES)", 1000)
    elif line == ".queries":
        for query in queries.queries().values():
            out.print(f"[bold]{query.name}[/bold]  {escape(query.title)}")
    else:
        out.print(HELP)
    return True


def _try(session: "Session", text: str, limit: int) -> None:
    from tasks.errors import ChainwrightError

    try:
        for table in session.run(text):
            _show(table, limit)
    except ChainwrightError as error:
        err.print(f"[red]error:[/red] {escape(str(error))}")
    except KeyboardInterrupt:
        err.print("interrupted")
