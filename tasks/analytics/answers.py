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

from tasks.analytics import duck, paging, queries
from tasks.analytics.paging import Cut, Page
from tasks.analytics.placed import keep_placed
from tasks.analytics.queries import Query
from tasks.analytics.sqlfiles import Parameter

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
        table = _computed(directory, query, parameters, defaults, limits)
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
    cut: Cut,
    *,
    keep: bool = True,
) -> Page:
    """One page; see `paging.page`. With `keep` it is cut from the kept answer, otherwise computed for this call.

    Keep what is asked for with few different parameters: nothing removes an answer but the end of its snapshot.
    """
    with _open(directory, query, parameters, defaults, limits, keep) as connection:
        return paging.page(connection, query, cut)


def select(
    directory: Path,
    query: Query,
    parameters: Mapping[str, Any],
    defaults: Mapping[str, Any],
    limits: Limits,
    cut: Cut,
    *,
    keep: bool = True,
) -> pa.Table:
    """The rows, sorted and searched as `page` does, as Arrow: for downloads."""
    with _open(directory, query, parameters, defaults, limits, keep) as connection:
        return paging.rows(connection, query, cut)


def find_row(
    directory: Path, query: Query, defaults: Mapping[str, Any], limits: Limits, **wanted: str
) -> dict[str, Any] | None:
    """The first row of the kept answer with exactly these values in these columns, or None."""
    where = " AND ".join(f'"{name}" = ${name}' for name in wanted)  # names come from code, values are bound
    with _open(directory, query, {}, defaults, limits, keep=True) as connection:
        exact = dataclasses.replace(
            query,
            sql=f"SELECT * FROM answer WHERE {where} LIMIT 1",  # noqa: S608
            parameters=tuple(Parameter(name, "VARCHAR", None, name) for name in wanted),
        )
        rows = queries.run(connection, exact, wanted).dicts()
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


@contextmanager
def _open(
    directory: Path,
    query: Query,
    parameters: Mapping[str, Any],
    defaults: Mapping[str, Any],
    limits: Limits,
    keep: bool,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the whole answer as the relation `answer`: the kept one, or computed now."""
    with duckdb.connect(config={"threads": limits.threads, "memory_limit": limits.memory}) as connection:
        connection.execute("SET TimeZone='UTC'")
        if keep:
            file = answer(directory, query, parameters, defaults, limits)
            connection.read_parquet(str(file)).create_view("answer")
        else:
            connection.register("answer", _computed(directory, query, parameters, defaults, limits))
        yield connection


def _computed(
    directory: Path, query: Query, parameters: Mapping[str, Any], defaults: Mapping[str, Any], limits: Limits
) -> pa.Table:
    with duck.open_manifest(directory, memory_limit=limits.memory, threads=limits.threads) as connection:
        return queries.run_arrow(connection, query, parameters, defaults)


def _fingerprint(query: Query, bound: Mapping[str, Any]) -> str:
    text = json.dumps([query.sql, sorted(bound.items())], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
