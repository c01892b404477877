"""Answers of queries kept as Parquet next to a staged manifest: pages of a large fleet are cut from a file.

An answer's name is a hash of the query's text and its bound parameters, and it lies in the folder of its snapshot, so
it never goes stale: a changed query, parameter or snapshot has another name.
"""

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.analytics import duck, queries
from tasks.analytics.queries import Page, Query

FOLDER = "answers"


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
    sort: str | None = None,
    descending: bool = False,
    search: str = "",
    limit: int = 100,
    offset: int = 0,
) -> Page:
    """One page of the kept answer; see `queries.page`."""
    file = answer(directory, query, parameters, defaults, limits)
    with _open(file, limits) as connection:
        return queries.page(
            connection, _stored(query), sort=sort, descending=descending, search=search, limit=limit, offset=offset
        )


def select(
    directory: Path,
    query: Query,
    parameters: Mapping[str, Any],
    defaults: Mapping[str, Any],
    limits: Limits,
    *,
    sort: str | None = None,
    descending: bool = False,
    search: str = "",
    limit: int = 1_000_000,
) -> pa.Table:
    """The rows of the kept answer, sorted and searched as `page` does, as Arrow."""
    file = answer(directory, query, parameters, defaults, limits)
    with _open(file, limits) as connection:
        return queries.select_arrow(
            connection, _stored(query), sort=sort, descending=descending, search=search, limit=limit
        )


def flat(table: pa.Table) -> pa.Table:
    """The table with lists and records as JSON text, for CSV."""
    columns = {
        field.name: pa.array(
            [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()]
        )
        if pa.types.is_nested(field.type)
        else column
        for field, column in zip(table.schema, table.columns, strict=True)
    }
    return pa.table(columns)


def prepare(directory: Path, names: Iterable[str], defaults: Mapping[str, Any], limits: Limits) -> list[Path]:
    """Compute the answers of these queries with their default parameters, for pages that are opened later."""
    return [answer(directory, queries.find(name), {}, defaults, limits) for name in names]


def _stored(query: Query) -> Query:
    return dataclasses.replace(query, sql="SELECT * FROM answer", parameters=())


def _open(file: Path, limits: Limits) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": limits.threads, "memory_limit": limits.memory})
    connection.execute("SET TimeZone='UTC'")
    connection.read_parquet(str(file)).create_view("answer")
    return connection


def _fingerprint(query: Query, bound: Mapping[str, Any]) -> str:
    text = json.dumps([query.sql, sorted(bound.items())], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
