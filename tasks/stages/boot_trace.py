"""What a disk's last starts read first, from the manifest."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb

from tasks.analytics.duck import open_manifest
from tasks.analytics.queries import run_arrow
from tasks.analytics.sqlfiles import load
from tasks.cache.export import ChainLayer
from tasks.errors import ChainwrightError
from tasks.inventory.manifest import current_snapshot
from tasks.inventory.staging import fetch_files
from tasks.settings import Fleet
from tasks.store.connect import control_store
from tasks.units import SLICE_BYTES

logger = logging.getLogger(__name__)

_DATASET = "boot_traces"


def boot_trace(connection: duckdb.DuckDBPyConnection, disk_id: str) -> list[tuple[str, int]]:
    """(layer id, slice) in the order of the last starts; layers that were merged away since may be among them."""
    rows = run_arrow(connection, load("plan", "warm_boot"), {"disk_id": disk_id})
    return list(zip(rows["layer_id"].to_pylist(), rows["slice_no"].to_pylist(), strict=True))


def known_starts(fleet: Fleet, disk_id: str, layers: Sequence[ChainLayer]) -> list[tuple[str, int]]:
    """The same, of a chain's layers that have such a slice. A hint: [] if the manifest cannot be read."""
    try:
        with _only_traces(fleet) as folder, open_manifest(folder, views=False) as connection:
            trace = boot_trace(connection, disk_id)
    except (ChainwrightError, OSError) as error:
        logger.warning("disk %s: its last starts are not known: %s", disk_id, error)
        return []
    sizes = {layer.layer_id: layer.size or 0 for layer in layers}
    return [(layer, number) for layer, number in trace if number * SLICE_BYTES < sizes.get(layer, 0)]


@contextlib.contextmanager
def _only_traces(fleet: Fleet) -> Iterator[Path]:
    """A manifest folder with this dataset alone: a VM's host needs no more, and keeps no file that is not current."""
    control = control_store(fleet)
    snapshot = current_snapshot(control)
    refs = list(snapshot.datasets.get(_DATASET, ())) if snapshot else []
    cache = Path(fleet.work_dir) / "starts"
    local = set(fetch_files(control, refs, cache).values())
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        (Path(folder) / _DATASET).mkdir()
        for path in local:
            os.link(path, Path(folder) / _DATASET / path.name)
        for path in (cache / "files").glob("[!.]*"):
            if path not in local:
                path.unlink(missing_ok=True)
        yield Path(folder)
