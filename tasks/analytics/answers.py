"""Answers of queries kept as Parquet next to a staged manifest: pages of a large fleet are cut from a file.

An answer's name is a hash of the query's text and its bound parameters, and it lies in the folder of its snapshot, so
it never goes stale: a changed query, parameter or snapshot has another name.
"""

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.analytics import duck, queries
from tasks.analytics.placed import keep_placed
from tasks.analytics.queries import Page, Query
from tasks.analytics.sqlfiles import Parameter
from tasks.errors import ConfigError

FOLDER = "answers"
_FORMULA = r"^\s*[=+\-@\t\r\n]"


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What one query may use."""

    memory: str = "2GB"
    threads: int = 2


def answer(
    directory: Path, query: Query, parameters: Mapping[str, Any], defaults: Mapping[str, Any], limits: Limits
) -> Path:
    """The Parquet file with all rows, computed now if it is not there yet. Errors as of `queries.run_arrow`."""
    bound = queries.bind(query, parameters, defaults)
    file = directory / FOLDER / f"{query.name}-{_fingerprint(query, bound)}.parquet"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        with duck.open_manifest(directory, memory_limit=limits.memory, threads=limits.threads) as connection:
            table = queries.run_arrow(connection, query, parameters, defaults)
        part = file.with_name(f"{file.name}.{uuid.uuid4().hex}.part")
        pq.write_table(table, part, compression="zstd", row_group_size=32_768)
        part.replace(file)
    return file


def page(
    directory: Path,
    query: Query,
    parameters: Mapping[str, Any],
    defaults: Mapping[str, Any],
    limits: Limits,
    *,
    keep: bool = True,
    sort: str | None = None,
    descending: bool = False,
    search: str = "",
    limit: int = 100,
    offset: int = 0,
) -> Page:
    """One page; see `queries.page`. With `keep` it is cut from the kept answer, otherwise computed for this call.

    Keep what is asked for with few different parameters: nothing removes an answer but the end of its snapshot.
    """
    with _open(directory, query, parameters, defaults, limits, keep) as source:
        if keep:
            return _cut(source, sort, descending, search, limit, offset)
        return queries.page(
            source.connection,
            query,
            parameters,
            defaults,
            sort=sort,
            descending=descending,
            search=search,
            limit=limit,
            offset=offset,
        )


def _cut(source: "_Source", sort: str | None, descending: bool, search: str, limit: int, offset: int) -> Page:
    """A page of a kept answer. Counted apart: a count beside the rows would read every column of all of them."""
    table = source.connection.view("answer")
    columns = dict(zip(table.columns, map(str, table.types), strict=True))
    if sort is not None and sort not in columns:
        raise ConfigError(f"query {source.query.name} has no column {sort!r}; it has: {', '.join(sorted(columns))}")
    found = _searched([name for name, kind in columns.items() if kind == "VARCHAR"], bool(search))
    text = {"page_search": search} if found else {}
    order = _order(source.query, sort, descending) if sort is not None else ""
    paging = f"LIMIT {int(limit)} OFFSET {int(offset)}"
    values = tuple(Parameter(name, "VARCHAR", None, name) for name in text)
    total = dataclasses.replace(source.query, sql=f"SELECT count(*) AS n FROM answer {found}", parameters=values)  # noqa: S608
    rows = dataclasses.replace(source.query, sql=f"SELECT * FROM answer {found} {order} {paging}", parameters=values)  # noqa: S608
    counted = queries.run(source.connection, total, text).rows[0][0]
    return Page(queries.run(source.connection, rows, text), counted, offset)


def _searched(texts: list[str], search: bool) -> str:
    """Rows with the text in any of these columns; the columns are the answer's own, the text is bound."""
    if not (search and texts):
        return ""
    return "WHERE " + " OR ".join(f"contains(lower({_quoted(name)}), lower($page_search))" for name in texts)


def _order(query: Query, sort: str, descending: bool) -> str:
    """Ties are broken by the query's key, so that pages never overlap."""
    terms = [f"{_quoted(sort)} {'DESC' if descending else 'ASC'} NULLS LAST", *map(_quoted, query.key)]
    return "ORDER BY " + ", ".join(terms)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def select(
    directory: Path,
    query: Query,
    parameters: Mapping[str, Any],
    defaults: Mapping[str, Any],
    limits: Limits,
    *,
    keep: bool = True,
    sort: str | None = None,
    descending: bool = False,
    search: str = "",
    limit: int = 1_000_000,
) -> pa.Table:
    """The rows, sorted and searched as `page` does, as Arrow."""
    with _open(directory, query, parameters, defaults, limits, keep) as source:
        return queries.select_arrow(
            source.connection,
            source.query,
            source.parameters,
            defaults,
            sort=sort,
            descending=descending,
            search=search,
            limit=limit,
        )


def find_row(
    directory: Path, query: Query, defaults: Mapping[str, Any], limits: Limits, **wanted: str
) -> dict[str, Any] | None:
    """The first row of the kept answer with exactly these values in these columns, or None."""
    where = " AND ".join(f'"{name}" = ${name}' for name in wanted)  # names come from code, values are bound
    with _open(directory, query, {}, defaults, limits, keep=True) as source:
        exact = dataclasses.replace(
            source.query,
            sql=f"{source.query.sql} WHERE {where} LIMIT 1",
            parameters=tuple(Parameter(name, "VARCHAR", None, name) for name in wanted),
        )
        rows = queries.run(source.connection, exact, wanted).dicts()
    return rows[0] if rows else None


def flat(table: pa.Table) -> pa.Table:
    """The table for a CSV that people open in a spreadsheet: lists and records are JSON text, and no text is a formula.

    Names come from tenants: a text that a spreadsheet would compute gets an apostrophe in front, as if typed there.
    """
    return pa.table({name: _plain_text(table[name]) for name in table.column_names})


def _plain_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_nested(column.type):
        texts = (None if value is None else json.dumps(value, default=str) for value in column.to_pylist())
        return pa.chunked_array([pa.array(texts, pa.string())])
    if not pa.types.is_string(column.type):
        return column
    formula = pc.match_substring_regex(column, _FORMULA)
    return pc.if_else(formula, pc.binary_join_element_wise("'", column, ""), column)


def prepare(
    directory: Path, wanted: Iterable[tuple[str, Mapping[str, Any]]], defaults: Mapping[str, Any], limits: Limits
) -> list[Path]:
    """Compute the answers of these queries (name, parameters), and the order of the trees, for pages opened later."""
    with duck.open_manifest(directory, memory_limit=limits.memory, threads=limits.threads) as connection:
        keep_placed(connection, directory)
    return [answer(directory, queries.find(name), parameters, defaults, limits) for name, parameters in wanted]


@dataclasses.dataclass(frozen=True, slots=True)
class _Source:
    connection: duckdb.DuckDBPyConnection
    query: Query
    parameters: Mapping[str, Any]


@contextmanager
def _open(
    directory: Path,
    query: Query,
    parameters: Mapping[str, Any],
    defaults: Mapping[str, Any],
    limits: Limits,
    keep: bool,
) -> Iterator[_Source]:
    """The kept answer as a query of its own, or the query itself over the manifest."""
    if not keep:
        with duck.open_manifest(directory, memory_limit=limits.memory, threads=limits.threads) as connection:
            yield _Source(connection, query, parameters)
        return
    file = answer(directory, query, parameters, defaults, limits)
    stored = dataclasses.replace(query, sql="SELECT * FROM answer", parameters=())
    with duckdb.connect(config={"threads": limits.threads, "memory_limit": limits.memory}) as connection:
        connection.execute("SET TimeZone='UTC'")
        connection.read_parquet(str(file)).create_view("answer")
        yield _Source(connection, stored, {})


def _fingerprint(query: Query, bound: Mapping[str, Any]) -> str:
    text = json.dumps([query.sql, sorted(bound.items())], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
