"""Manifests and expected rows written as YAML, for tests of the SQL files.

A fleet is a mapping from dataset to rows; columns that are left out are null, or what `DEFAULTS` says. A test case's
`input.yaml` may name a fleet (`fleet: small`) and replace datasets of it.
"""

import datetime
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tasks.analytics.derive import derive
from tasks.analytics.queries import Query
from tasks.inventory.schema import DATASETS

FLEETS = Path(__file__).parents[1] / "sql" / "fleets"
MIB = 1 << 20
_SIZE = re.compile(r"(-?[0-9.]+) ?(KiB|MiB|GiB)")
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

DEFAULTS: dict[str, dict[str, Any]] = {
    "layers": {
        "region": "us-east",
        "status": "ok",
        "version": 3,
        "cluster_bits": 16,
        "virtual_size": 10 * MIB,
        "extended_l2": False,
        "l1_entries": 1,
        "l1_offset": 196608,
        "l2_tables": 1,
        "metadata_bytes": 196608,
        "last_modified": "2026-01-01T00:00:00Z",
        "first_seen": "2026-01-01T00:00:00Z",
    },
    "heads": {
        "kind": "disk",
        "home_region": "us-east",
        "state": "idle",
        "generation": 1,
        "virtual_size": 10 * MIB,
        "status": "ok",
    },
    "reads": {"hour": "2026-01-01T00:00:00Z", "disk_id": "", "cache_status": "hit", "upstream_bytes": 0},
    "receipts": {"outcome": "published", "finished_at": "2026-01-01T00:00:00Z"},
}


def load(path: Path) -> dict[str, Any]:
    """A case's input with its fleet merged in."""
    case = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    fleet = (
        yaml.safe_load((FLEETS / f"{case.pop('fleet')}.yaml").read_text(encoding="utf-8")) if "fleet" in case else {}
    )
    return {**(fleet or {}), **case}


def write(case: dict[str, Any], directory: Path) -> None:
    """The datasets of a case as a manifest folder."""
    tables = {name: [_row(name, row) for row in case.get(name, [])] for name in DATASETS}
    _link(tables)
    for name, schema in DATASETS.items():
        if name in case:
            (directory / name).mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(tables[name], schema=schema), directory / name / "part-0.parquet")


def prepare(case: dict[str, Any], query: Query, directory: Path) -> None:
    """`write`, and the derived datasets if the query reads them."""
    write(case, directory)
    if {"shadow_layers", "steals"} & set(query.inputs):
        derive(directory, threads=1)


def _row(dataset: str, given: dict[str, Any]) -> dict[str, Any]:
    unknown = set(given) - set(DATASETS[dataset].names)
    assert not unknown, f"{dataset}: no such column {unknown}"
    row = {name: given.get(name, DEFAULTS.get(dataset, {}).get(name)) for name in DATASETS[dataset].names}
    return {field.name: plain(row[field.name], pa.types.is_timestamp(field.type)) for field in DATASETS[dataset]}


def plain(value: Any, moment: bool = False) -> Any:
    """`4 MiB` becomes a number, a timestamp an aware datetime."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(float(match[1]) * _UNITS[match[2]])
    if moment and isinstance(value, str):
        return datetime.datetime.fromisoformat(value)
    if isinstance(value, datetime.datetime) and value.tzinfo is None:
        return value.replace(tzinfo=datetime.UTC)
    return value


def _link(tables: dict[str, list[dict[str, Any]]]) -> None:
    """Fill in what follows: layer numbers of parents and tips, ids, counts, sums."""
    by_id = {row["layer_id"]: row for row in tables["layers"]}
    for number, row in enumerate(tables["layers"], 1):
        row["layer_no"] = row["layer_no"] or number
        row["etag"] = row["etag"] or f'"{row["layer_id"]}"'
        row["key"] = row["key"] or f"layers/{row['layer_id']}.qcow2"
    for row in tables["layers"]:
        parent = by_id.get(row["backing_layer_id"])
        row["parent_no"] = row["parent_no"] or (parent["layer_no"] if parent else None)
        own = [extent for extent in tables["extents"] if extent["layer_no"] == row["layer_no"]]
        _sum(row, own)
    for row in tables["heads"]:
        tip = by_id.get(row["tip_layer_id"])
        row["tip_no"] = tip["layer_no"] if tip else None


def _sum(layer: dict[str, Any], extents: list[dict[str, Any]]) -> None:
    if layer["status"] == "missing":
        for name in ("virtual_size", "cluster_bits", "l2_tables", "l1_entries", "metadata_bytes", "last_modified"):
            layer[name] = None
        return
    for extent in extents:
        extent["kind"] = extent["kind"] or 0
        stored = 0 if extent["kind"] == 1 else extent["length"]
        extent["host_length"] = stored if extent["host_length"] is None else extent["host_length"]
        extent["host_offset"] = (
            (-1 if extent["kind"] == 1 else 327680) if extent["host_offset"] is None else extent["host_offset"]
        )
    sums = {
        "extents": len(extents),
        "data_bytes": sum(e["length"] for e in extents if e["kind"] == 0),
        "zero_bytes": sum(e["length"] for e in extents if e["kind"] in (1, 2)),
        "compressed_bytes": sum(e["length"] for e in extents if e["kind"] == 3),
        "stored_bytes": sum(e["host_length"] for e in extents if e["kind"] in (0, 3)),
    }
    for name, value in sums.items():
        layer[name] = value if layer[name] is None else layer[name]
    if layer["size_bytes"] is None:
        layer["size_bytes"] = 327680 + layer["stored_bytes"]
