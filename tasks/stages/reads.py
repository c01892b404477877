"""What a region's readers read: its cache's log, and its store's log, into the manifest."""

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks import clock
from tasks.cache.access_log import Access, parse_cache_line, parse_store_line
from tasks.cache.log_files import LogCursor, new_lines
from tasks.errors import ConfigError
from tasks.inventory import manifest
from tasks.inventory.append import append_under_cursor
from tasks.inventory.log_objects import ObjectsCursor, new_objects, parse_location
from tasks.inventory.reads import RollUp
from tasks.inventory.snapshot import Snapshot
from tasks.settings import Fleet, Region
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store, open_store
from tasks.units import GIB

logger = logging.getLogger(__name__)

MAX_BYTES = 1 * GIB  # of logs per step: what was read until then is in the manifest
AHEAD_SECONDS = 3600.0  # by which a log's clock may be fast: findings count back from the newest row

Parser = Callable[[bytes], Access | None]


@dataclass(slots=True)
class _Counts:
    lines: int = 0
    bad: int = 0
    bytes: int = 0


def collect(fleet: Fleet, region: str, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Everything new in the region's logs, exactly once; runs where the logs are. In steps of about `max_bytes`.

    {"region", "lines", "bad_lines", "own_lines", "bytes", "reads", "boot_traces", "note"}. Safe to repeat and to run
    twice at once (PreconditionFailed: the other one has done it). Before the first scan nothing is read.
    """
    total = _collect_step(fleet, region, max_bytes)
    step = total
    while step["bytes"] >= max_bytes:
        step = _collect_step(fleet, region, max_bytes)
        total = _add(total, {key: value for key, value in step.items() if key not in ("region", "note")})
    return total


def _collect_step(fleet: Fleet, region: str, max_bytes: int) -> dict[str, Any]:
    settings = fleet.region(region)
    control = control_store(fleet)
    snapshot = manifest.current_snapshot(control)
    total: dict[str, Any] = {"region": region, "lines": 0, "bad_lines": 0, "own_lines": 0, "bytes": 0}
    total |= {"reads": 0, "boot_traces": 0, "note": ""}
    if snapshot is None:
        return {**total, "note": "no manifest yet: the logs are read after the first scan"}
    owners = _regions_of_layers(control, snapshot, Path(fleet.work_dir))
    if settings.cache_log:
        done = _collect_cache(settings, control, snapshot, RollUp(region, owners), max_bytes)
        total = _add(total, done)
    if settings.store_log:
        networks = {one.name: one.networks for one in fleet.regions}
        done = _collect_store(settings, control, snapshot, RollUp("", owners, networks), max_bytes)
        total = _add(total, done)
    if not settings.cache_log and not settings.store_log:
        total["note"] = "the region has neither cache_log nor store_log in fleet.toml"
    return total


def _collect_cache(
    region: Region, control: ObjectStore, snapshot: Snapshot, rollup: RollUp, max_bytes: int
) -> dict[str, Any]:
    name = f"cache-log/{region.name}"
    before = snapshot.cursors.get(name, "")
    counts = _Counts()
    if "://" in region.cache_log:
        objects = ObjectsCursor.from_json(before)
        store, prefix = _log_store(region, region.cache_log)
        _roll(_flat(new_objects(store, prefix, objects, max_bytes)), parse_cache_line, rollup, counts)
        return _append(control, name, before, objects.to_json(), rollup, counts)
    log = Path(region.cache_log)
    if not log.parent.is_dir():
        raise ConfigError(f"regions.{region.name}.cache_log: {log.parent} is not a folder on this worker")
    cursor = LogCursor.from_json(before)
    _roll(new_lines(log, cursor, max_bytes), parse_cache_line, rollup, counts)
    return _append(control, name, before, cursor.to_json(), rollup, counts)


def _collect_store(
    region: Region, control: ObjectStore, snapshot: Snapshot, rollup: RollUp, max_bytes: int
) -> dict[str, Any]:
    name = f"store-log/{region.name}"
    before = snapshot.cursors.get(name, "")
    cursor, counts = ObjectsCursor.from_json(before), _Counts()
    store, prefix = _log_store(region, region.store_log)
    lines = _flat(new_objects(store, prefix, cursor, max_bytes))
    _roll(lines, lambda line: parse_store_line(line, region.name, region.bucket), rollup, counts)
    return _append(control, name, before, cursor.to_json(), rollup, counts)


def _roll(lines: Iterable[bytes], parse: Parser, rollup: RollUp, counts: _Counts) -> None:
    """A line that cannot be read (cut by a full disk, foreign), or is of a future day, is counted and left out."""
    latest = clock.now().timestamp() + AHEAD_SECONDS
    for line in lines:
        counts.lines += 1
        counts.bytes += len(line)
        try:
            access = _past(parse(line), latest)
        except ValueError as error:
            counts.bad += 1
            if counts.bad <= 3:
                logger.warning("log line left out: %s", error)
            continue
        if access is not None:
            rollup.add(access)


def _past(access: Access | None, latest: float) -> Access | None:
    """The access itself. ValueError if its time has not come: one such row would make all others too old to count."""
    if access is not None and access.time > latest:
        raise ValueError(f"its time, {access.time:.0f}, is in the future: is the clock of that cache right?")
    return access


def _append(
    control: ObjectStore, name: str, before: str, after: str, rollup: RollUp, counts: _Counts
) -> dict[str, Any]:
    """Rows and cursor in one step; nothing is written when nothing was read."""
    rows = {"reads": 0, "boot_traces": 0}
    if counts.lines:
        with tempfile.TemporaryDirectory(prefix="chainwright-reads-") as folder:
            files = rollup.write(Path(folder))
            rows = {dataset: sum(pq.read_metadata(path).num_rows for path in paths) for dataset, paths in files.items()}
            append_under_cursor(control, files, name, before, after)
    done = {"lines": counts.lines, "bad_lines": counts.bad, "own_lines": rollup.own, "bytes": counts.bytes}
    return done | rows


def _regions_of_layers(control: ObjectStore, snapshot: Snapshot, work_dir: Path) -> dict[str, str]:
    folder = manifest.stage(control, snapshot, work_dir / "manifests")
    owners: dict[str, str] = {}
    for path in sorted((folder / "layers").glob("*.parquet")):
        table = pq.read_table(path, columns=["layer_id", "region"])
        owners.update(zip(table["layer_id"].to_pylist(), table["region"].to_pylist(), strict=True))
    return {layer: region for layer, region in owners.items() if region}


def _log_store(region: Region, url: str) -> tuple[ObjectStore, str]:
    """The bucket of the logs, reached like the region's own bucket."""
    bucket, prefix = parse_location(url)
    return open_store(region.model_copy(update={"bucket": bucket})), prefix


def _flat(groups: Iterable[list[bytes]]) -> Iterator[bytes]:
    for group in groups:
        yield from group


def _add(total: dict[str, Any], done: dict[str, Any]) -> dict[str, Any]:
    return {**total, **{key: total[key] + value for key, value in done.items()}}
