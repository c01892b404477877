"""One session of `chainwright sql`: a locked connection, statements checked one by one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from tasks.analytics import readonly
from tasks.analytics.duck import lock_down, open_manifest
from tasks.errors import Permanent


class Session:
    """Views, macros and the session's own tables. Use it in `with`."""

    def __init__(
        self, directory: Path, defaults: Mapping[str, Any], memory_limit: str = "2GB", threads: int = 2
    ) -> None:
        self._connection = open_manifest(directory, memory_limit=memory_limit, threads=threads)
        readonly.install_macros(self._connection, dict(defaults))
        lock_down(self._connection, directory)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def run(self, text: str) -> list[pa.Table]:
        """The results of all statements of a text. Refused: a statement that could write. Permanent: DuckDB's error."""
        try:
            return [table for statement in readonly.parse(text) if (table := self._one(statement)) is not None]
        except duckdb.Error as error:
            raise Permanent(" ".join(str(error).split())) from error

    def _one(self, statement: duckdb.Statement) -> pa.Table | None:
        relation = self._connection.sql(statement.query)
        return relation.to_arrow_table() if relation is not None else None
