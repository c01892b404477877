"""Cases of SQL queries as folders of YAML: rows in, rows out.

<case>/<dataset>.yaml      list of rows; columns that are left out get the defaults below, else null
<case>/parameters.yaml     what the query binds (may be absent)
<case>/expect.yaml         list of rows; only the columns that it names are compared, in the query's order
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tasks.analytics.derived import DERIVED
from tasks.analytics.duck import open_manifest
from tasks.analytics.queries import run
from tasks.analytics.sqlfiles import load
from tasks.inventory.schema import DATASETS

SCHEMAS = DATASETS | DERIVED


def cases(folder: Path) -> list[Path]:
    """Every case under a folder of queries."""
    return sorted(path.parent for path in folder.glob("*/*/expect.yaml"))


def check_case(case: Path, area: str, manifest: Path) -> None:
    """Run the query that the case's parent folder names, and compare."""
    write_manifest(manifest, {name: _rows(case / f"{name}.yaml") for name in SCHEMAS})
    parameters = _read(case / "parameters.yaml") or {}
    with open_manifest(manifest) as connection:
        result = run(connection, load(area, case.parent.name), parameters)
    expected = _rows(case / "expect.yaml")
    found = result.dicts()
    assert len(found) == len(expected), found
    for wanted, row in zip(expected, found, strict=True):
        assert {name: row[name] for name in wanted} == wanted


def write_manifest(folder: Path, datasets: dict[str, list[dict[str, Any]]]) -> None:
    """Rows as a staged manifest."""
    for name, rows in datasets.items():
        if rows:
            (folder / name).mkdir(parents=True, exist_ok=True)
            filled = [_DEFAULTS.get(name, dict)(**row) | row for row in rows]
            table = pa.Table.from_pylist(
                [{column: row.get(column) for column in SCHEMAS[name].names} for row in filled], schema=SCHEMAS[name]
            )
            pq.write_table(table, folder / name / "part-0.parquet")
    folder.mkdir(parents=True, exist_ok=True)


def _layer(layer_no: int, parent_no: int | None = None, **row: Any) -> dict[str, Any]:
    name = row.get("layer_id", f"l{layer_no}")
    known = {"layer_id": name, "region": "us", "key": f"layers/{name}.qcow2", "etag": f'"{layer_no}"', "status": "ok"}
    sizes = {"size_bytes": 100, "stored_bytes": 80, "virtual_size": 1000, "version": 3, "cluster_bits": 16}
    return known | sizes | {"backing_layer_id": None if parent_no is None else f"l{parent_no}"}


def _head(disk_id: str, tip_no: int | None = None, **row: Any) -> dict[str, Any]:
    known = {"kind": "disk", "state": "idle", "home_region": "us", "status": "ok", "generation": 1}
    return known | {"tip_layer_id": f"l{tip_no}", "virtual_size": 1000, "etag": f'"{disk_id}"'}


def _steal(**row: Any) -> dict[str, Any]:
    return {"data_bytes": 0, "zero_bytes": 0, "compressed_bytes": 0, "compressed_stored_bytes": 0}


_DEFAULTS = {"layers": _layer, "heads": _head, "steals": _steal}


def _rows(file: Path) -> list[dict[str, Any]]:
    return list(_read(file) or [])


def _read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None
