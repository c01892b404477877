"""`chainwright query`: the findings, as a table, JSON, CSV or Parquet."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from tasks.chain.layer import LAYER_ID
from tasks.cli.common import FleetOption, JsonOption, err, fleet_of, out, print_json

if TYPE_CHECKING:
    from tasks.analytics.queries import Query, Result

SHOWN = 50  # rows of a table, without --limit
SHORT_ID = 10  # digits of a layer id
_ANY_WIDTH = 10_000  # columns: more than any table asks for

ManifestOption = Annotated[
    Path | None, typer.Option("--manifest", help="A manifest folder instead of the fleet's current snapshot.")
]


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command()
    def query(
        name: Annotated[str | None, typer.Argument(help="Without a name: what queries there are.")] = None,
        param: Annotated[
            list[str] | None,
            typer.Option("--param", "--set", metavar="KEY=VALUE", help="A parameter; may be repeated."),
        ] = None,
        limit: Annotated[int | None, typer.Option(min=1, help=f"At most so many rows. Tables: {SHOWN}.")] = None,
        sort: Annotated[
            str | None, typer.Option(help="Order by this column, largest first; `+column`: smallest.")
        ] = None,
        csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
        parquet: Annotated[Path | None, typer.Option(help="Write a Parquet file.")] = None,
        show_sql: Annotated[bool, typer.Option("--sql", help="Print the query's SQL file, run nothing.")] = False,
        manifest: ManifestOption = None,
        fleet: FleetOption = None,
        json: JsonOption = False,
    ) -> None:
        """Run one of the named queries over the current manifest."""
        if json + csv + (parquet is not None) > 1:
            raise typer.BadParameter("choose one of --json, --csv and --parquet")
        from tasks.analytics import queries

        if name is None:
            _list(list(queries.queries().values()), json)
            return
        wanted = queries.find(name)
        if show_sql:
            out.print(escape(wanted.sql))
            return
        table = _answer(wanted, _parameters(param or []), sort, limit, manifest, fleet)
        _print(wanted, table, limit, csv=csv, parquet=parquet, json=json)


def _parameters(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{text!r}: expected KEY=VALUE", param_hint="--param")
        found[name] = value
    return found


def _answer(
    query: "Query",
    parameters: dict[str, str],
    sort: str | None,
    limit: int | None,
    manifest: Path | None,
    fleet: Path | None,
) -> Any:
    """The rows as an Arrow table."""
    from tasks.analytics import queries
    from tasks.analytics.duck import open_manifest
    from tasks.errors import ConfigError
    from tasks.stages import findings

    defaults = defaults_of(manifest, fleet)
    try:
        queries.bind(query, parameters, defaults)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--param") from None
    folder = findings.prepared(manifest, query) if manifest else findings.staged_for(fleet_of(fleet), query)
    with open_manifest(folder) as connection:
        return queries.run_sorted(connection, query, parameters, defaults, sort=sort, limit=limit)


def defaults_of(manifest: Path | None, fleet: Path | None) -> dict[str, Any]:
    """What the fleet's file answers. A manifest folder can be looked at without a fleet."""
    from tasks.analytics.queries import fleet_defaults
    from tasks.errors import ConfigError

    try:
        return fleet_defaults(fleet_of(fleet))
    except ConfigError:
        if manifest is None or fleet is not None:
            raise
        return {}


def _print(query: "Query", table: Any, limit: int | None, *, csv: bool, parquet: Path | None, json: bool) -> None:
    from tasks.analytics import queries

    if parquet is not None:
        queries.write_parquet(table, parquet)
        err.print(f"{parquet}: {table.num_rows:,} rows")
    elif csv:
        queries.write_csv(table)
    elif json:
        print_json({"query": query.name, "rows": queries.as_result(query, table).dicts()})
    else:
        print_table(queries.as_result(query, table.slice(0, limit or SHOWN)), table.num_rows, query.title)


def print_table(result: "Result", total: int, title: str = "") -> None:
    """Rows for a person: sizes in units, numbers to the right, layer ids cut short; records where rows do not fit."""
    names = [column.name for column in result.columns]
    rows = [[escape(_cell(name, value)) for name, value in zip(names, row, strict=True)] for row in result.rows]
    table = _table(result, rows, title)
    if Measurement.get(out, out.options.update(width=_ANY_WIDTH), table).maximum <= out.width:
        out.print(table)
    else:
        _print_records(names, rows, title)
    if len(result.rows) < total:
        err.print(f"{len(result.rows):,} of {total:,} rows: --limit shows more, --csv and --json show all")


def _table(result: "Result", rows: list[list[str]], title: str) -> Table:
    table = Table(
        title=escape(title) if title else None, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for column in result.columns:
        right = column.type in ("BIGINT", "DOUBLE")
        table.add_column(escape(column.name.replace("_", " ")), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _print_records(names: list[str], rows: list[list[str]], title: str) -> None:
    """One line a value, as psql's expanded display: a table folded into a narrow terminal cannot be read."""
    if title:
        out.print(f"[italic]{escape(title)}[/italic]")
    width = max(map(len, names))
    for number, row in enumerate(rows, 1):
        out.print(f"[bold]row {number}[/bold]")
        for name, cell in zip(names, row, strict=True):
            out.print(f"  {name.replace('_', ' '):{width}}  {cell}")


def _cell(name: str, value: Any) -> str:
    from tasks.units import human_bytes

    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float() if name.endswith(("_bytes", "bytes_per_day")) or name == "bytes":
            return human_bytes(value)
        case float():
            return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
        case int():
            return f"{value:,}"
        case datetime.datetime():
            return value.isoformat(sep=" ", timespec="seconds")
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    return f"{text[:SHORT_ID]}…" if LAYER_ID.fullmatch(text) else text


def _list(found: Sequence["Query"], json: bool) -> None:
    if json:
        print_json({"queries": found})
        return
    table = Table(title="Queries: chainwright query NAME", title_justify="left")
    for heading in ("area", "name", "what it says", "parameters"):
        table.add_column(heading, overflow="fold")
    for query in sorted(found, key=lambda q: (q.area, q.name)):
        parameters = [p.name + (f"={p.default}" if p.default is not None else "") for p in query.parameters]
        table.add_row(query.area, query.name, escape(query.title), escape(" ".join(parameters)))
    out.print(table)
