"""The view `placed` kept as a file in the order of its trees: what concerns one disk is read from a few row groups.

layers (in the order of their numbers)          placed.parquet (in the order of their trees)
|a..b.ca.cb...a...b|  one disk: read them all   |aaaa|bbb|cc|...  one disk: read its tree
"""

import uuid
from pathlib import Path

import duckdb

FOLDER = "placed"
ROW_GROUP = 8192


def keep_placed(connection: duckdb.DuckDBPyConnection, directory: Path) -> None:
    """Write the file of an analysed manifest, if it is not there yet; without analysis there are no trees."""
    file = _file(directory)
    if file.exists() or not (directory / "shadow_layers").is_dir():
        return
    file.parent.mkdir(exist_ok=True)
    part = file.with_name(f"{uuid.uuid4().hex}.part")
    query = "SELECT * FROM placed ORDER BY tree_no, layer_no"
    connection.execute(
        f"COPY ({query}) TO '{_escaped(part)}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})"
    )
    part.replace(file)


def use_placed(connection: duckdb.DuckDBPyConnection, directory: Path) -> None:
    """Let the view read the file, if there is one."""
    file = _file(directory)
    if file.exists():
        connection.read_parquet(str(file)).create_view("placed", replace=True)


def _file(directory: Path) -> Path:
    return directory / FOLDER / "part-0000.parquet"


def _escaped(file: Path) -> str:
    return str(file).replace("'", "''")
