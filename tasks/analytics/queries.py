"""Run the queries of sql/: bind parameters, give typed rows, pages or Arrow.

>>> with open_manifest(directory) as connection:
...     result = run(connection, find("chain_length"), {"max_chain_length": 8})
...     result.columns[0].name, result.rows[0][0]
"""

import csv
import datetime
import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import clock
from tasks.analytics.sqlfiles import Parameter, Query, find, load, queries
from tasks.errors import ConfigError, Permanent
from tasks.settings import Fleet

__all__ = [
    "Column",
    "Query",
    "Result",
    "as_result",
    "bind",
    "find",
    "fleet_defaults",
    "identifier",
    "load",
    "order_by",
    "queries",
    "rows_of",
    "run",
    "run_arrow",
    "run_sorted",
    "write_csv",
    "write_parquet",
]

_TRUE, _FALSE = {"true", "1", "yes"}, {"false", "0", "no"}


@dataclass(frozen=True, slots=True)
class Column:
    """A result column. `type` is DuckDB's name of it."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Result:
    """All rows of a query; values are plain Python (times are aware datetimes in UTC)."""

    query: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]

    def dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries, for JSON."""
        names = [column.name for column in self.columns]
        return [dict(zip(names, row, strict=True)) for row in self.rows]


def fleet_defaults(fleet: Fleet) -> dict[str, Any]:
    """Values for parameters that the fleet's own file answers: prices, limits."""
    prices = {region.name: region.egress_usd_per_gb for region in fleet.regions}
    storage = {region.name: region.storage_usd_per_gb_month for region in fleet.regions}
    return {
        "prices": json.dumps(prices),
        "storage_prices": json.dumps(storage),
        "max_chain_length": fleet.policy.max_chain_length,
        "keep_layers": fleet.policy.keep_layers,
    }


def run(
    connection: duckdb.DuckDBPyConnection,
    query: Query,
    parameters: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Result:
    """All rows. Raises ConfigError on a wrong parameter, Permanent if DuckDB cannot answer."""
    return as_result(query, _execute(connection, query.sql, bind(query, parameters or {}, defaults or {}), query.name))


def run_arrow(
    connection: duckdb.DuckDBPyConnection,
    query: Query,
    parameters: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> pa.Table:
    """All rows as an Arrow table, for Parquet and for code."""
    return _execute(connection, query.sql, bind(query, parameters or {}, defaults or {}), query.name)


def run_sorted(
    connection: duckdb.DuckDBPyConnection,
    query: Query,
    parameters: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    *,
    sort: str | None = None,
    limit: int | None = None,
) -> pa.Table:
    """Rows as an Arrow table, the first `limit` of them. `sort`: a column, largest first; `+column`: smallest first."""
    bound = bind(query, parameters or {}, defaults or {})
    text = _stripped(query.sql)
    if sort is not None:
        columns = {column.name for column in _describe(connection, query, bound)}
        text = f"SELECT * FROM ({text}) {order_by(query, columns, sort.removeprefix('+'), not sort.startswith('+'))}"  # noqa: S608
    if limit is not None:
        text, bound = f"SELECT * FROM ({text}) LIMIT $page_limit", bound | {"page_limit": limit}  # noqa: S608
    return _execute(connection, text, bound, query.name)


def bind(query: Query, parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Values for every parameter that the query declares; texts are converted to the declared types."""
    for name in parameters:
        query.parameter(name)
    bound = {}
    for parameter in query.parameters:
        if parameters.get(parameter.name) is not None:
            value = parameters[parameter.name]
        else:
            value = defaults.get(parameter.name, parameter.default)
        if value is None:
            raise ConfigError(f"query {query.name}: parameter {parameter.name} is required: {parameter.text}")
        bound[parameter.name] = _converted(query, parameter, value)
    return bound


def _converted(query: Query, parameter: Parameter, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return _parse(parameter.type, value.strip())
    except ValueError:
        wrong = f"query {query.name}: parameter {parameter.name}: {value!r} is not of type {parameter.type}"
        raise ConfigError(wrong) from None


def _parse(kind: str, text: str) -> Any:
    match kind:
        case "INTEGER" | "BIGINT":
            return int(text)
        case "DOUBLE":
            return float(text)
        case "BOOLEAN":
            return _boolean(text)
        case "TIMESTAMPTZ":
            return _moment(text)
        case "VARCHAR[]":
            return [part for part in text.split(",") if part]
        case "JSON":
            return json.dumps(json.loads(text))
        case _:
            return text


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError(text)


def _moment(text: str) -> datetime.datetime:
    if text == "now":
        return clock.now()
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _execute(connection: duckdb.DuckDBPyConnection, text: str, bound: dict[str, Any], name: str) -> pa.Table:
    try:
        return connection.sql(text, params=bound or None).to_arrow_table()
    except duckdb.Error as error:
        raise Permanent(f"query {name}: {' '.join(str(error).split())}") from error


def _describe(connection: duckdb.DuckDBPyConnection, query: Query, bound: dict[str, Any]) -> tuple[Column, ...]:
    described = _execute(connection, f"DESCRIBE {_stripped(query.sql)}", bound, query.name)
    return tuple(
        Column(name, kind)
        for name, kind in zip(described["column_name"].to_pylist(), described["column_type"].to_pylist(), strict=True)
    )


def order_by(query: Query, columns: Collection[str], sort: str, descending: bool) -> str:
    """The clause; ties are broken by the query's key. ConfigError if there is no such column."""
    if sort not in columns:
        raise ConfigError(f"query {query.name} has no column {sort!r}; it has: {', '.join(sorted(columns))}")
    terms = [f"{identifier(sort)} {'DESC' if descending else 'ASC'} NULLS LAST", *map(identifier, query.key)]
    return "ORDER BY " + ", ".join(terms)


def write_parquet(table: pa.Table, path: Path) -> None:
    """A Parquet file of the rows; it appears whole. ConfigError if it cannot be written."""
    part = path.with_name(f".{path.name}.part")
    try:
        pq.write_table(table, part, compression="zstd")
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


def write_csv(table: pa.Table) -> None:
    """CSV with a header line on standard output."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(table.column_names)
    for batch in table.to_batches():
        writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def as_result(query: Query, table: pa.Table) -> Result:
    """The rows as plain Python values."""
    return rows_of(table, query.name)


def rows_of(table: pa.Table, name: str = "") -> Result:
    """The same for the answer of any statement."""
    columns = tuple(Column(field.name, _type_name(field.type)) for field in table.schema)
    rows = tuple(zip(*(column.to_pylist() for column in table.columns), strict=True)) if table.num_columns else ()
    return Result(name, columns, rows)


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ"
    if pa.types.is_integer(kind):
        return "BIGINT"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "DOUBLE"
    if pa.types.is_boolean(kind):
        return "BOOLEAN"
    return "VARCHAR" if pa.types.is_string(kind) else str(kind)


def _stripped(text: str) -> str:
    return text.strip().rstrip(";")


def identifier(name: str) -> str:
    """The name, quoted for a statement."""
    return '"' + name.replace('"', '""') + '"'
