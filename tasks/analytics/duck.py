"""DuckDB over one staged manifest: a view per dataset, bounded memory and threads.

A connection is opened where it is used and never kept in a module: DuckDB's threads do not survive a fork, and a child
that inherits a connection hangs.
"""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.analytics import sqlfiles
from tasks.analytics.derived import DERIVED
from tasks.analytics.placed import use_placed
from tasks.errors import NotFound
from tasks.inventory.schema import DATASETS

_TYPES = {
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint64(): "UBIGINT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.timestamp("us", "UTC"): "TIMESTAMPTZ",
    pa.list_(pa.int32()): "INTEGER[]",
    pa.list_(pa.string()): "VARCHAR[]",
}


def open_manifest(
    directory: Path, *, memory_limit: str = "1GB", threads: int = 2, views: bool = True, lock: bool = False
) -> duckdb.DuckDBPyConnection:
    """A fresh in-memory connection with one view per manifest and derived dataset, and the views of `sql/views`.

    `directory` holds `<dataset>/*.parquet`; a dataset without files is an empty view with the right columns, and a
    column that older files lack is null. Without `views` those of `sql/views` are left out. With `lock` nothing outside
    `directory` can be read, and no setting changed. Raises NotFound if `directory` is not a folder. Close it, or use it
    in `with`.
    """
    if not directory.is_dir():
        raise NotFound(f"{directory}: no such manifest folder")
    connection = duckdb.connect(
        config={"threads": threads, "memory_limit": memory_limit, "autoload_known_extensions": False}
    )
    try:
        connection.execute("SET TimeZone='UTC'")
        connection.execute("SET enable_progress_bar=false")  # it is drawn on standard output, into --json
        connection.execute(f"SET temp_directory={_quoted(_spill_folder())}")
        for name, schema in (DATASETS | DERIVED).items():
            connection.execute(f"CREATE VIEW {name} AS {_select(directory / name, schema)}")
        for statement in sqlfiles.view_statements() if views else ():
            connection.execute(statement)
        if views:
            use_placed(connection, directory)
        if lock:
            lock_down(connection, directory)
    except BaseException:
        connection.close()
        raise
    return connection


def lock_down(connection: duckdb.DuckDBPyConnection, directory: Path) -> None:
    """From here on the connection reads files of that folder only, and no setting can be changed."""
    connection.execute(f"SET allowed_directories=[{_quoted(str(directory.absolute()) + '/')}]")
    connection.execute("SET enable_external_access=false")
    connection.execute("SET lock_configuration=true")


def _spill_folder() -> str:
    """Made when it is needed. Each user's own: another's cannot be written to."""
    return f"{tempfile.gettempdir()}/chainwright-duckdb-{os.getuid()}"


def _select(folder: Path, schema: pa.Schema) -> str:
    """The view's query: every column of the schema, in its order and type, from all files of the folder."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        nulls = ", ".join(f"NULL::{_TYPES[field.type]} AS {field.name}" for field in schema)
        return f"SELECT {nulls} WHERE false"
    present = _columns(files)
    wanted = ", ".join(
        f"{field.name if field.name in present else 'NULL'}::{_TYPES[field.type]} AS {field.name}" for field in schema
    )
    names = ", ".join(_quoted(str(file)) for file in files)
    union = ", union_by_name = true" if len(files) > 1 else ""
    return f"SELECT {wanted} FROM read_parquet([{names}]{union})"  # noqa: S608 - quoted names of our own files


def _columns(files: Iterable[Path]) -> set[str]:
    return {name for file in files for name in pq.read_schema(file).names}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
