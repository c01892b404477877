"""A staged manifest as the forest that retirement judges: one position per layer object that was listed."""

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.inventory.schema import LAYERS
from tasks.plan.retire import Forest

COLUMNS = ["layer_no", "layer_id", "region", "etag", "size_bytes", "last_modified", "status", "parent_no"]


def load_forest(staged: Path, now: datetime.datetime) -> tuple[Forest, list[str]]:
    """The forest and the ETags by position. `now` is the store's; layers that are only referred to are left out."""
    files = sorted((staged / "layers").glob("*.parquet"))
    tables = [pq.read_table(file, columns=COLUMNS, partitioning=None) for file in files]
    table = pa.concat_tables(tables) if tables else LAYERS.empty_table().select(COLUMNS)
    table = table.filter(pc.not_equal(table["status"], "missing"))
    numbers = table["layer_no"].to_numpy()
    position = np.full(int(numbers.max(initial=0)) + 1, -1, np.int64)
    position[numbers] = np.arange(len(numbers))
    parent_no = table["parent_no"].fill_null(-1).to_numpy().astype(np.int64)
    inside = (parent_no >= 0) & (parent_no < len(position))
    ages = pc.subtract(pa.scalar(now, pa.timestamp("us", "UTC")), table["last_modified"])
    forest = Forest(
        ids=table["layer_id"].to_pylist(),
        parent=np.where(inside, position[np.where(inside, parent_no, 0)], -1),
        refused=pc.not_equal(table["status"], "ok").to_numpy(zero_copy_only=False),
        size_bytes=table["size_bytes"].to_numpy(),
        region=table["region"].to_pylist(),
        age_seconds=ages.cast(pa.int64()).to_numpy() / 1e6,
    )
    return forest, table["etag"].to_pylist()
