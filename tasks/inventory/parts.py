"""What one shard's scan leaves for `publish`: three Parquet files under manifests/staging/<scan_id>/.

`layers`   rows of new and changed objects; layer_no counts from 0 inside the part
`extents`  their extents, sorted by that layer_no and start; one more file per very large layer
`gone`     keys that were in the last snapshot and are not listed any more, or not as they were
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.chain.extent import Extents, concat
from tasks.inventory.parquet import RowGroups, conform, write_table
from tasks.inventory.rows import OK, extent_table
from tasks.inventory.schema import EXTENTS, LAYERS

# Small layers become one Arrow table together: a table of each would cost as much as its decoding.
GATHERED_LAYERS = 1 << 10
# A layer with more extents than this gets a file of its own, written while it is read: 10 MiB in memory per thread.
SPOOL_ROWS = 1 << 18
GONE = pa.schema([("key", pa.string())])


class Spool:
    """The extents of one layer while it is read: in memory, or in a file of its own once there are many."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.extents.parquet"
        self._file: RowGroups | None = None
        self.held: list[Extents] = []
        self._held_rows = 0

    def keep(self, extents: Extents) -> None:
        """Add a batch."""
        if self._file:
            self._file.add([extent_table(0, extents)])
            return
        self.held.append(extents)
        self._held_rows += len(extents)
        if self._held_rows > SPOOL_ROWS:
            self._file = RowGroups(self._path, EXTENTS)
            self._file.add(extent_table(0, batch) for batch in self.held)
            self.held = []

    def finish(self, wanted: bool) -> Path | None:
        """Close; the file, if the layer has one and is wanted."""
        if self._file is None:
            return None
        self._file.close()
        if wanted:
            return self._path
        self._path.unlink()
        return None


@dataclass(frozen=True, slots=True)
class PartFiles:
    """Local files of a part. `large` are (layer_no in the part, file of one layer's extents)."""

    layers: Path
    extents: Path
    large: tuple[tuple[int, Path], ...]
    gone: Path


class PartWriter:
    """Collects the rows of a shard from several threads. Use `spool` and `add` per layer, then `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._rows: list[dict[str, Any]] = []
        self._large: list[tuple[dict[str, Any], Path]] = []
        self._extents = RowGroups(folder / "part.extents.parquet", EXTENTS)
        self._gathered: list[tuple[int, Extents]] = []
        self._gathered_rows = 0
        self._spools = 0

    def spool(self) -> Spool:
        """For the extents of one layer."""
        with self._lock:
            self._spools += 1
            return Spool(self.folder, f"large-{self._spools}")

    def add(self, row: dict[str, Any] | None, spool: Spool) -> None:
        """The layer's row and what its spool holds; None if the object went."""
        wanted = row is not None and row["status"] == OK
        file = spool.finish(wanted)
        if row is None:
            return
        with self._lock:
            if file:
                self._large.append((row, file))
                return
            if wanted:
                self._gather(len(self._rows), concat(spool.held))
            self._rows.append(row)

    def _gather(self, number: int, extents: Extents) -> None:
        self._gathered.append((number, extents))
        self._gathered_rows += len(extents)
        if self._gathered_rows > SPOOL_ROWS or len(self._gathered) >= GATHERED_LAYERS:
            self._write_gathered()

    def _write_gathered(self) -> None:
        numbers = np.array([number for number, _ in self._gathered], np.int64)
        extents = concat([held for _, held in self._gathered])
        rows = np.repeat(numbers, [len(held) for _, held in self._gathered])
        self._extents.add([extent_table(rows, extents)])
        self._gathered, self._gathered_rows = [], 0

    def close(self, gone: list[str]) -> PartFiles:
        """Write the rest. Large layers get the numbers after all others, so that every file is sorted."""
        self._write_gathered()
        self._extents.close()
        first = len(self._rows)
        rows = self._rows + [row for row, _ in self._large]
        table = pa.Table.from_pylist([{"layer_no": n, **row} for n, row in enumerate(rows)], schema=LAYERS)
        write_table(self.folder / "part.layers.parquet", conform(table, LAYERS))
        write_table(self.folder / "part.gone.parquet", pa.table({"key": pa.array(gone, pa.string())}, schema=GONE))
        return PartFiles(
            self.folder / "part.layers.parquet",
            self._extents.path,
            tuple((first + n, file) for n, (_, file) in enumerate(self._large)),
            self.folder / "part.gone.parquet",
        )
