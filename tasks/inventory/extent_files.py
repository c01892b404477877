"""The extents dataset as a list of files: numbering of new parts, and when old files are written anew.

Rows of layers that are gone stay in their file until it is compacted: readers join with `layers` by layer_no, and
numbers are never reused. A file's layer_no range overlaps no other file's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.inventory.parquet import RowGroups, read_batches
from tasks.inventory.schema import EXTENTS
from tasks.inventory.snapshot import FileRef

TARGET_ROWS = 8_000_000  # per file: about 50 MB
SMALL_ROWS = 1_000_000  # a file below this is worth joining with its neighbours …
MAX_SMALL_FILES = 16  # … once there are more than this (a scan of every hour leaves one file)
MAX_DEAD_SHARE = 0.2  # of a file's rows


@dataclass(frozen=True, slots=True)
class Numbered:
    """A local file of new extents whose layer_no counts from `first` instead of 0."""

    path: Path
    first: int


def write_new(sources: Sequence[Numbered], keep: pa.Array, folder: Path) -> Iterator[Path]:
    """Files of the sources' rows with final numbers, of bounded size, in the given order. `keep`: living numbers."""
    yield from _write((_numbered(source) for source in sources), keep, folder, "extents-new")


def _numbered(source: Numbered) -> Iterator[pa.Table]:
    for batch in read_batches(source.path, EXTENTS):
        number = pc.add(batch["layer_no"], pa.scalar(source.first, pa.int32()))
        yield batch.set_column(0, EXTENTS.field(0), number)


def _write(tables: Iterator[Iterator[pa.Table]], keep: pa.Array, folder: Path, name: str) -> Iterator[Path]:
    writer: RowGroups | None = None
    count = 0
    for source in tables:
        for table in source:
            live = table.filter(pc.is_in(table["layer_no"], value_set=keep))
            if not len(live):
                continue
            if writer is None:
                writer = RowGroups(folder / f"{name}-{count}.parquet", EXTENTS)
                count += 1
            writer.add([live])
        # Cut between layers only: a layer's extents are in one file.
        if writer is not None and writer.rows >= TARGET_ROWS:
            writer.close()
            yield writer.path
            writer = None
    if writer is not None:
        writer.close()
        yield writer.path


def compaction_groups(refs: Sequence[FileRef], numbers: pa.Array, extents: pa.Array) -> list[list[FileRef]]:
    """Which files to write anew, as neighbours that become one. `numbers`/`extents`: living layers, rows of each."""
    ordered = sorted(refs, key=lambda ref: ref.first_no)
    dead = [ref for ref in ordered if _dead_rows(ref, numbers, extents) > MAX_DEAD_SHARE * ref.rows]
    small = [ref for ref in ordered if ref.rows < SMALL_ROWS]
    chosen = {ref.key for ref in dead} | ({ref.key for ref in small} if len(small) > MAX_SMALL_FILES else set())
    groups: list[list[FileRef]] = []
    open_rows = TARGET_ROWS
    for ref in ordered:
        if ref.key not in chosen:
            open_rows = TARGET_ROWS
            continue
        if open_rows + ref.rows > TARGET_ROWS:
            groups.append([])
            open_rows = 0
        groups[-1].append(ref)
        open_rows += ref.rows
    return [group for group in groups if len(group) > 1 or group[0] in dead]


def _dead_rows(ref: FileRef, numbers: pa.Array, extents: pa.Array) -> int:
    inside = pc.and_(pc.greater_equal(numbers, ref.first_no), pc.less_equal(numbers, ref.last_no))
    return ref.rows - int(pc.sum(extents.filter(inside)).as_py() or 0)


def compact(files: Sequence[Path], keep: pa.Array, folder: Path, name: str) -> Iterator[Path]:
    """The files' living rows as one file (or few, if it grows too large)."""
    yield from _write((read_batches(path, EXTENTS) for path in files), keep, folder, name)
