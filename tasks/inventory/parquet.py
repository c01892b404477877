"""How manifest files are written and read: delta-coded integers, zstd, large row groups (6 bytes an extent)."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 500_000  # 3 MB of extents: small enough to skip by layer_no, large enough to scan fast
_DELTA = (pa.int32(), pa.int64(), pa.timestamp("us", "UTC"))


def open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer with the manifest's encoding. Close it."""
    delta = {field.name: "DELTA_BINARY_PACKED" for field in schema if field.type in _DELTA}
    dictionary = [field.name for field in schema if field.type == pa.string()]
    return pq.ParquetWriter(
        path, schema, compression="zstd", compression_level=1, use_dictionary=dictionary, column_encoding=delta or None
    )


def write_table(path: Path, table: pa.Table) -> None:
    """One file of one table."""
    with open_writer(path, table.schema) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)


def read_files(files: Sequence[Path], schema: pa.Schema) -> pa.Table:
    """All rows of the files, as the schema: columns that older files lack are null, others' extras are dropped."""
    if not files:
        return schema.empty_table()
    return pa.concat_tables([conform(pq.ParquetFile(file).read(), schema) for file in files])


def read_batches(file: Path, schema: pa.Schema, rows: int = ROW_GROUP_ROWS) -> Iterator[pa.Table]:
    """The rows of one file in pieces."""
    for batch in pq.ParquetFile(file).iter_batches(batch_size=rows):
        yield conform(pa.Table.from_batches([batch]), schema)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with exactly the schema's columns."""
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


class RowGroups:
    """A Parquet file that grows by tables; small ones are gathered into full row groups."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.rows = 0
        self._writer = open_writer(path, schema)
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0

    def add(self, tables: Iterable[pa.Table]) -> None:
        """Append rows."""
        for table in tables:
            self._waiting.append(table)
            self._waiting_rows += len(table)
            self.rows += len(table)
            if self._waiting_rows >= ROW_GROUP_ROWS:
                self._flush()

    def close(self) -> None:
        """Write what is waiting and the footer."""
        if self._waiting_rows:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=ROW_GROUP_ROWS)
        self._waiting, self._waiting_rows = [], 0

    def __enter__(self) -> "RowGroups":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def row_count(path: Path) -> int:
    """Rows, from the footer."""
    count: int = pq.ParquetFile(path).metadata.num_rows
    return count


def schema_of(path: Path) -> pa.Schema:
    """The columns of a file."""
    return pq.read_schema(path)
