"""Put a made-up fleet together and write it as a manifest folder."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.analytics.fleetgen.extents import write_extents
from tasks.analytics.fleetgen.forest import make_forest
from tasks.analytics.fleetgen.records import head_table, layer_table, make_heads, make_marks, make_names
from tasks.analytics.fleetgen.traffic import boot_table, read_tables, receipt_table
from tasks.errors import ConfigError

SIZES = {"XS": 500, "S": 10_000, "M": 100_000, "L": 1_000_000}  # layers; a hundred times as many extents


@dataclass(frozen=True, slots=True)
class FleetShape:
    """What to make. The same shape gives the same fleet, byte for byte of its rows."""

    layers: int
    seed: int = 7
    extents_per_layer: float = 100.0
    reads_per_layer: float = 3.0
    until: datetime.datetime = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)  # "now" of the fleet
    hostile_names: bool = False  # texts that break careless pages, shells and SQL
    numbered_by_time: bool = False  # layer numbers as a fleet that grew has them, not tree by tree


def generate_fleet(directory: Path, shape: FleetShape) -> dict[str, int]:
    """Write the datasets under `directory` (which must not hold any yet); the number of rows of each."""
    if shape.layers < 50:
        raise ConfigError(f"a made-up fleet has at least 50 layers, not {shape.layers}")
    if directory.exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory}: is not empty")
    rng = np.random.default_rng(shape.seed)
    forest = make_forest(shape.layers, rng)
    marks = make_marks(forest, rng)
    names = make_names(forest, shape.until, shape.numbered_by_time, rng)
    heads = make_heads(forest, marks, rng)
    folder = directory / "extents"
    totals = write_extents(forest, names.layer_no, marks.refused, shape.extents_per_layer, folder, rng)
    layers = layer_table(forest, names, marks, totals, shape.hostile_names).sort_by("layer_no")
    reads = read_tables(forest, heads, names, int(forest.count * shape.reads_per_layer), shape.until, rng)
    return {
        "extents": int(totals.extents.sum()),
        "layers": _write(directory, "layers", [layers]),
        "heads": _write(directory, "heads", [head_table(heads, forest, names, shape.hostile_names, rng)]),
        "reads": _write(directory, "reads", reads),
        "boot_traces": _write(directory, "boot_traces", [boot_table(forest, heads, names, shape.until, rng)]),
        "receipts": _write(
            directory, "receipts", [receipt_table(heads, max(20, forest.count // 500), shape.until, rng)]
        ),
    }


def _write(directory: Path, dataset: str, tables: Iterable[pa.Table]) -> int:
    folder = directory / dataset
    folder.mkdir(parents=True)
    rows, writer = 0, None
    for table in tables:
        if writer is None:
            writer = pq.ParquetWriter(folder / "part-0000.parquet", table.schema, compression="zstd")
        writer.write_table(table, row_group_size=250_000)
        rows += table.num_rows
    if writer is not None:
        writer.close()
    return rows
