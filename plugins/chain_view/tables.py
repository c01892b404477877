"""Tables over the named queries of `sql/`: pages, downloads, and the SQL itself."""

import datetime
import io
import math
import shlex
from dataclasses import asdict
from typing import Annotated, Any, Literal

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from fastapi import APIRouter, Query, Request, Response

from tasks.analytics import answers, queries
from tasks.analytics.paging import Cut

from .guard import MAY_SEE
from .state import ViewNow, defaults_of, is_kept, limits

router = APIRouter(dependencies=MAY_SEE)

_OWN = {"sort", "desc", "filter", "offset", "limit", "format"}  # ours; every other query parameter is the query's
_NUMBERS = ("INT", "DOUBLE", "FLOAT", "DECIMAL")
_EXACT = 1 << 53  # beyond it a number is not exact in the browser
MAX_DOWNLOAD_ROWS = 1_000_000

Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]
Text = Annotated[str, Query(max_length=200)]


@router.get("/query/{name}")
def table(
    name: str,
    request: Request,
    view: ViewNow,
    sort: Text = "",
    desc: bool = False,
    filter: Text = "",  # noqa: A002 - the name in the URL
    offset: Offset = 0,
    limit: Limit = 25,
) -> dict[str, Any]:
    """One page of a query, sorted and filtered here."""
    given = _parameters(request)
    page = answers.page(
        view.staged.directory,
        queries.find(name),
        given,
        defaults_of(view),
        limits(),
        Cut(sort or None, desc, filter, limit, offset),
        keep=is_kept(name, given),
    )
    columns = [
        {"name": column.name, "type": column.type, "numeric": any(kind in column.type for kind in _NUMBERS)}
        for column in page.result.columns
    ]
    rows = [{key: plain(value) for key, value in row.items()} for row in page.result.dicts()]
    return {"columns": columns, "rows": rows, "total": page.total, "offset": page.offset, "limit": limit}


@router.get("/sql/{name}")
def sql(name: str, request: Request, view: ViewNow) -> dict[str, Any]:
    """The query's file, its bound parameters, and how to run it on the command line."""
    query = queries.find(name)
    given = _parameters(request)
    options = "".join(f" --set {shlex.quote(f'{key}={value}')}" for key, value in given.items())
    return {
        "name": name,
        "file": f"sql/{query.area}/{name}.sql",
        "title": query.title,
        "sql": query.sql,
        "parameters": {key: plain(value) for key, value in queries.bind(query, given, defaults_of(view)).items()},
        "command": f"chainwright query {name}{options}",
    }


@router.get("/download/{name}")
def download(
    name: str,
    request: Request,
    view: ViewNow,
    format: Literal["csv", "parquet"] = "csv",  # noqa: A002 - the name in the URL
    sort: Text = "",
    desc: bool = False,
    filter: Text = "",  # noqa: A002 - the name in the URL
) -> Response:
    """All rows that the table shows, in its order, as a file."""
    given = _parameters(request)
    found = answers.select(
        view.staged.directory,
        queries.find(name),
        given,
        defaults_of(view),
        limits(),
        Cut(sort or None, desc, filter, MAX_DOWNLOAD_ROWS),
        keep=is_kept(name, given),
    )
    body = io.BytesIO()
    if format == "csv":
        pa_csv.write_csv(answers.flat(found), body)
    else:
        pq.write_table(found, body, compression="zstd")
    kind = "text/csv; charset=utf-8" if format == "csv" else "application/vnd.apache.parquet"
    disposition = f'attachment; filename="{name}-{view.staged.snapshot_id}.{format}"'
    return Response(body.getvalue(), media_type=kind, headers={"Content-Disposition": disposition})


@router.get("/queries")
def catalogue(view: ViewNow) -> list[dict[str, Any]]:  # noqa: ARG001 - a page without a manifest has no tables
    """Every query with its title and parameters."""
    return [
        {
            "name": q.name,
            "area": q.area,
            "title": q.title,
            "grain": q.grain,
            "parameters": [asdict(p) for p in q.parameters],
        }
        for q in queries.queries().values()
    ]


def plain(value: Any) -> Any:
    """A value that JSON and the browser hold exactly."""
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)


def _parameters(request: Request) -> dict[str, str]:
    return {key: value for key, value in request.query_params.items() if key not in _OWN}
