"""Join the parts of a scan with the last snapshot into a new one, and make it current."""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks import clock, retry
from tasks.errors import ChainwrightError, PreconditionFailed
from tasks.inventory import extent_files, manifest, parquet, staging
from tasks.inventory.expire import expire
from tasks.inventory.extent_files import Numbered
from tasks.inventory.fleet_rows import Merged, Part, link_layers, merge_parts, numbers_of, summarise
from tasks.inventory.heads_rows import link_heads, list_all, read_heads
from tasks.inventory.parts import GONE
from tasks.inventory.receipts_rows import SEEN, read_receipts
from tasks.inventory.regions import region_states
from tasks.inventory.rows import OK
from tasks.inventory.schema import DATASETS, EXTENTS, HEADS, LAYERS, RECEIPTS
from tasks.inventory.snapshot import FileRef, RegionState, Snapshot
from tasks.store import keys
from tasks.store.base import ObjectStore

logger = logging.getLogger(__name__)

LAYERS_PER_FILE = 1 << 16  # rows of `layers` per file: a scan rewrites the file of the newest numbers
PUBLISH_ATTEMPTS = 5  # against others that append to the manifest at the same time
UPLOAD_THREADS = 8
MAX_SCANS = 200  # remembered in a snapshot


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a publication reads and writes."""

    control: ObjectStore
    cache_dir: Path  # files of the store, kept between runs
    folder: Path  # private, removed afterwards
    snapshot_id: str

    def fetch(self, refs: Iterable[FileRef]) -> list[Path]:
        """Local copies."""
        listed = list(refs)
        return list(staging.fetch_files(self.control, listed, self.cache_dir).values())

    def put(self, name: str, path: Path, region: str = "", numbers: tuple[int, int] = (-1, -1)) -> FileRef:
        """Upload a finished file under the new snapshot."""
        key = f"{keys.MANIFESTS}{self.snapshot_id}/{name}.parquet"
        ref = FileRef(
            key=key,
            bytes=path.stat().st_size,
            rows=parquet.row_count(path),
            sha256=parquet.sha256_of(path),
            region=region,
            first_no=numbers[0],
            last_no=numbers[1],
        )
        for attempt in retry.store_call():
            with attempt:
                try:
                    self.control.upload_file(key, path)
                except PreconditionFailed:
                    if self.control.info(key).size != ref.bytes:  # else: our own first try, whose answer was lost
                        raise
        return ref

    def put_table(self, name: str, table: pa.Table, region: str = "", numbers: tuple[int, int] = (-1, -1)) -> FileRef:
        """Write and upload a table."""
        path = self.folder / f"{name}.parquet"
        parquet.write_table(path, table)
        return self.put(name, path, region, numbers)


def publish(
    control: ObjectStore, results: Sequence[dict[str, Any]], regions: Sequence[str], work_dir: Path
) -> Snapshot:
    """The new current snapshot, of the shards' results. A region without (all) its results keeps its last rows.

    Safe to repeat: results that are published already give the snapshot that has them. PreconditionFailed if others
    published again and again meanwhile; the store's errors otherwise, with nothing changed.
    """
    for attempt in range(PUBLISH_ATTEMPTS):
        pointer = manifest.read_pointer(control)
        last = manifest.load_snapshot(control, pointer.snapshot_id) if pointer.snapshot_id else None
        if last and results and {result["scan_id"] for result in results} <= set(last.scans):
            return last
        with staging.scratch(work_dir, "publish") as folder:
            space = Workspace(control, work_dir / "manifests", folder, manifest.new_snapshot_id())
            snapshot = _build(space, last, results, regions)
        try:
            manifest.publish_snapshot(control, snapshot, pointer)
        except PreconditionFailed:
            manifest.discard(control, manifest.own_keys(snapshot))
            if attempt == PUBLISH_ATTEMPTS - 1:
                raise
            continue
        staging.tidy(work_dir / "manifests")
        _clean_up(control, results)
        with suppress(ChainwrightError):  # the snapshot is published; what is too old waits for the next one
            expire(control)
        return snapshot
    raise AssertionError


def _build(
    space: Workspace, last: Snapshot | None, results: Sequence[dict[str, Any]], regions: Sequence[str]
) -> Snapshot:
    now = clock.now()
    old = last.datasets if last else {}
    old_layers = {ref.key: table for ref, table in _tables(space, old.get("layers", ()), LAYERS)}
    before = pa.concat_tables([LAYERS.empty_table(), *old_layers.values()])
    states = region_states(last, results, regions)
    used = [result for result in results if states[result["region"]].complete]
    parts, extents = _read_parts(space, used)
    merged = merge_parts(before, parts, last.next_layer_no if last else 0, now)
    heads = read_heads(space.control, _whole(space, old.get("heads", ()), HEADS))
    merged = link_layers(merged, heads["tip_layer_id"].to_pylist(), now)
    heads = link_heads(heads, numbers_of(merged.layers, heads["tip_layer_id"]))
    seen_refs = last.internal.get("actions", ()) if last else ()
    before_receipts = _whole(space, old.get("receipts", ()), RECEIPTS)
    receipts, seen = read_receipts(space.control, before_receipts, _whole(space, seen_refs, SEEN))
    datasets = {name: old.get(name, ()) for name in DATASETS} | {
        "layers": _put_layers(space, merged.layers, old.get("layers", ()), old_layers),
        "extents": _put_extents(space, merged, extents, old.get("extents", ())),
        "heads": _put_small(space, "heads", heads, old.get("heads", ())),
        "receipts": _put_small(space, "receipts", receipts, old.get("receipts", ())),
    }
    return Snapshot(
        snapshot_id=space.snapshot_id,
        created_at=now.isoformat(),
        parent_id=last.snapshot_id if last else None,
        next_layer_no=merged.next_layer_no,
        datasets=datasets,
        regions=states,
        internal={"actions": _put_small(space, "actions-seen", seen, seen_refs)},
        summary=summarise(merged.layers, heads),
        scans=_scans(last, results),
        cursors=last.cursors if last else {},
        rules=_rules(last, used, states),
    )


def _scans(last: Snapshot | None, results: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Ids of these scans and of those before: a late retry of an old publication must be known as done."""
    return (*sorted({result["scan_id"] for result in results}), *(last.scans if last else ()))[:MAX_SCANS]


def _rules(last: Snapshot | None, used: Sequence[dict[str, Any]], states: dict[str, RegionState]) -> str:
    """What all rows were made with; empty if they differ: then the next scan reads anew."""
    found = {str(result["rules"]) for result in used}
    if last and not all(state.complete for state in states.values()):
        found.add(last.rules)
    return found.pop() if len(found) == 1 else ""


def _tables(space: Workspace, refs: Sequence[FileRef], schema: pa.Schema) -> list[tuple[FileRef, pa.Table]]:
    paths = space.fetch(refs)
    return [(ref, parquet.read_files([path], schema)) for ref, path in zip(refs, paths, strict=True)]


def _whole(space: Workspace, refs: Sequence[FileRef], schema: pa.Schema) -> pa.Table:
    return parquet.read_files(space.fetch(refs), schema)


def _read_parts(space: Workspace, results: Sequence[dict[str, Any]]) -> tuple[list[Part], list[list[Numbered]]]:
    """The parts, and for each its extent files by number in the part."""
    parts, extents = [], []
    for result in results:
        refs = {(part["kind"], part["number"]): FileRef(**part["ref"]) for part in result["parts"]}
        files = dict(zip(refs, space.fetch(refs.values()), strict=True))
        layers = parquet.read_files([files[key] for key in files if key[0] == "layers"], LAYERS)
        gone = parquet.read_files([files[key] for key in files if key[0] == "gone"], GONE)
        parts.append(Part(result["region"], layers, gone["key"].to_pylist()))
        extents.append([Numbered(files[key], key[1]) for key in sorted(files) if key[0] == "extents"])
    return parts, extents


def _put_layers(
    space: Workspace, layers: pa.Table, refs: Sequence[FileRef], old: dict[str, pa.Table]
) -> tuple[FileRef, ...]:
    """One file per region and range of numbers; those that are as before are shared with the last snapshot."""
    by_place = {(ref.region, ref.first_no // LAYERS_PER_FILE): ref for ref in refs}
    region = pc.fill_null(layers["region"], "")
    bucket = pc.divide(layers["layer_no"], LAYERS_PER_FILE)
    found = []
    for name in sorted(set(region.to_pylist())):
        mine = pc.equal(region, name)
        for number in sorted(set(bucket.filter(mine).to_pylist())):
            rows = layers.filter(pc.and_(mine, pc.equal(bucket, number))).combine_chunks()
            ref = by_place.get((name, number))
            if ref is None or not old[ref.key].equals(rows):
                span = pc.min_max(rows["layer_no"]).as_py()
                ref = space.put_table(f"layers-{name or 'none'}-{number}", rows, name, (span["min"], span["max"]))
            found.append(ref)
    return tuple(found)


def _put_extents(
    space: Workspace, merged: Merged, parts: list[list[Numbered]], refs: Sequence[FileRef]
) -> tuple[FileRef, ...]:
    alive = merged.layers.filter(
        pc.and_(pc.equal(merged.layers["status"], OK), pc.greater(merged.layers["extents"], 0))
    )
    alive = alive.combine_chunks()
    numbers, counts = (alive[name].combine_chunks() for name in ("layer_no", "extents"))
    sources = [
        Numbered(source.path, first + source.first)
        for first, files in zip(merged.firsts, parts, strict=True)
        for source in files
    ]
    found = [_put_extent_file(space, path) for path in extent_files.write_new(sources, numbers, space.folder)]
    groups = extent_files.compaction_groups([*refs, *found], numbers, counts)
    replaced = {ref.key for group in groups for ref in group}
    for index, group in enumerate(groups):
        files = space.fetch(group)
        joined = extent_files.compact(files, numbers, space.folder, f"extents-joined-{index}")
        found += [_put_extent_file(space, path) for path in joined]
    kept = [ref for ref in (*refs, *found) if ref.key not in replaced]
    return tuple(sorted(kept, key=lambda ref: ref.first_no))


def _put_extent_file(space: Workspace, path: Path) -> FileRef:
    spans = [pc.min_max(batch["layer_no"]).as_py() for batch in parquet.read_batches(path, EXTENTS)]
    span = (min(s["min"] for s in spans), max(s["max"] for s in spans))
    return space.put(path.stem, path, numbers=span)


def _put_small(space: Workspace, name: str, table: pa.Table, refs: Sequence[FileRef]) -> tuple[FileRef, ...]:
    """A dataset of one file; the old one if nothing changed."""
    if not len(table):
        return ()
    if len(refs) == 1 and _whole(space, refs, table.schema).equals(table.combine_chunks()):
        return tuple(refs)
    return (space.put_table(name, table),)


def _clean_up(control: ObjectStore, results: Sequence[dict[str, Any]]) -> None:
    """Remove the parts, those of attempts that failed included."""
    for scan_id in {result["scan_id"] for result in results if result["parts"]}:
        found = [item.key for item in list_all(control, f"{manifest.STAGING}{scan_id}/")]
        with ThreadPoolExecutor(UPLOAD_THREADS) as pool:
            list(pool.map(lambda key: manifest.discard(control, [key]), found))
