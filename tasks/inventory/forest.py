"""A staged manifest as the forest that retirement judges: one position per layer that was listed, or is referred to."""

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.chain.extent import I64
from tasks.inventory.rows import MISSING, OK
from tasks.inventory.schema import LAYERS
from tasks.plan.retire import Forest

COLUMNS = [
    "layer_no", "layer_id", "region", "etag", "size_bytes", "last_modified", "status", "version", "backing_layer_id",
    "parent_no",
]  # fmt: skip


def load_forest(staged: Path, now: datetime.datetime) -> tuple[Forest, list[str]]:
    """The forest and the ETags by position. `now` is the store's.

    Layers that are referred to but not there are in it: as far as an earlier scan has read them, with their parents.
    """
    files = sorted((staged / "layers").glob("*.parquet"))
    tables = [pq.read_table(file, columns=COLUMNS, partitioning=None) for file in files]
    table = pa.concat_tables(tables) if tables else LAYERS.empty_table().select(COLUMNS)
    absent = pc.equal(table["status"], MISSING).to_numpy(zero_copy_only=False)
    refused = pc.not_equal(table["status"], OK).to_numpy(zero_copy_only=False)
    ages = pc.subtract(pa.scalar(now, pa.timestamp("us", "UTC")), table["last_modified"])
    forest = Forest(
        ids=table["layer_id"].to_pylist(),
        parent=_parents(table, absent),
        refused=refused,
        size_bytes=table["size_bytes"].fill_null(0).to_numpy(),
        region=table["region"].fill_null("").to_pylist(),
        age_seconds=ages.cast(pa.int64()).fill_null(0).to_numpy() / 1e6,
        unknown=refused & pc.is_null(table["version"]).to_numpy(zero_copy_only=False),
        absent=int(absent.sum()),
    )
    return forest, table["etag"].fill_null("").to_pylist()


def _parents(table: pa.Table, absent: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> I64:
    """Positions of the backing layers, -1 where there is none: objects by their number, what is not there by its id."""
    numbers = table["layer_no"].to_numpy()
    position = np.full(int(numbers.max(initial=0)) + 1, -1, np.int64)
    position[numbers] = np.arange(len(numbers))
    parent_no = table["parent_no"].fill_null(-1).to_numpy().astype(np.int64)
    inside = (parent_no >= 0) & (parent_no < len(position))
    parent = np.where(inside, position[np.where(inside, parent_no, 0)], -1)
    rows = np.flatnonzero(absent)
    gone = table["layer_id"].combine_chunks().take(pa.array(rows))
    among = pc.index_in(table["backing_layer_id"], value_set=gone).fill_null(-1).to_numpy().astype(np.int64)
    return np.where((parent < 0) & (among >= 0), rows[among] if len(rows) else -1, parent)
