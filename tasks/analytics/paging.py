"""Cuts of an answer: sorted by a column, searched in its texts, a stretch of the rows.

The connection holds the whole answer as the relation `answer`; names of columns are checked, texts are bound.
"""

import dataclasses

import duckdb
import pyarrow as pa

from tasks.analytics import queries
from tasks.analytics.queries import Query, Result
from tasks.analytics.sqlfiles import Parameter
from tasks.errors import ConfigError

MAX_PAGE = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """Which rows. Without `sort` the query's own order stands; ties are broken by its key, so that pages never overlap.

    `search` keeps rows with this text in any text column, whatever its case.
    """

    sort: str | None = None
    descending: bool = False
    search: str = ""
    limit: int = 100
    offset: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """One page of a sorted, searched result. `total` counts the rows of all pages."""

    result: Result
    total: int
    offset: int


def page(connection: duckdb.DuckDBPyConnection, query: Query, cut: Cut) -> Page:
    """One page. Raises ConfigError on a column that is not there, or a limit outside 1 to MAX_PAGE.

    Counted apart: a count beside the rows would read every column of all of them.
    """
    if not (0 < cut.limit <= MAX_PAGE and cut.offset >= 0):
        raise ConfigError(f"page: limit {cut.limit} must be 1 to {MAX_PAGE}, offset {cut.offset} not negative")
    found = rows(connection, query, cut)
    where = _where(_columns(connection), cut.search)
    total = _run(connection, query, f"SELECT count(*) AS n FROM answer {where}", cut)["n"][0].as_py()  # noqa: S608
    return Page(queries.as_result(query, found), total, cut.offset)


def rows(connection: duckdb.DuckDBPyConnection, query: Query, cut: Cut) -> pa.Table:
    """The rows as Arrow. Raises ConfigError on a column that is not there."""
    columns = _columns(connection)
    order = queries.order_by(query, columns, cut.sort, cut.descending) if cut.sort is not None else ""
    paging = f"LIMIT {int(cut.limit)} OFFSET {int(cut.offset)}"
    return _run(connection, query, f"SELECT * FROM answer {_where(columns, cut.search)} {order} {paging}", cut)  # noqa: S608


def _run(connection: duckdb.DuckDBPyConnection, query: Query, text: str, cut: Cut) -> pa.Table:
    bound = {"page_search": cut.search} if "$page_search" in text else {}
    values = tuple(Parameter(name, "VARCHAR", None, name) for name in bound)
    return queries.run_arrow(connection, dataclasses.replace(query, sql=text, parameters=values), bound)


def _columns(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    answer = connection.table("answer")
    return dict(zip(answer.columns, map(str, answer.types), strict=True))


def _where(columns: dict[str, str], search: str) -> str:
    if not search:
        return ""
    texts = [queries.identifier(name) for name, kind in columns.items() if kind == "VARCHAR"]
    found = (f"contains(lower({text}), lower($page_search))" for text in texts)
    return "WHERE " + (" OR ".join(found) or "false")
