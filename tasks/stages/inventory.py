"""Inventory: what every layer of every region holds, as a new manifest snapshot."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.errors import ChainwrightError, Permanent
from tasks.inventory import manifest
from tasks.inventory import publish as publishing
from tasks.inventory.fetch import ObstoreSource
from tasks.inventory.shard_scan import scan_shard as scan_one
from tasks.inventory.shards import new_scan_id, plan_shards, scan_rules, shard_from_json
from tasks.inventory.snapshot import Snapshot
from tasks.settings import Fleet
from tasks.store.connect import control_store, open_store


def list_shards(fleet: Fleet, region: str) -> list[dict[str, Any]]:
    """What there is to scan in a region, in pieces: {"scan_id", "region", "number", "of", "name"}."""
    store = open_store(fleet.region(region))
    snapshot = manifest.current_snapshot(control_store(fleet))
    return [shard.to_json() for shard in plan_shards(region, store, snapshot, new_scan_id())]


def scan_shard(fleet: Fleet, shard: dict[str, Any]) -> dict[str, Any]:
    """Scan one piece; runs where the region is. The result names the part that it left in the control bucket.

    {"region", "objects", "new", "gone", "refused", "requests", "bytes", "seconds", …}. Safe to repeat.
    """
    piece = shard_from_json(shard)
    region = fleet.region(piece.region)
    control = control_store(fleet)
    with _work_dir(fleet) as work_dir:
        return scan_one(
            piece,
            open_store(region),
            ObstoreSource(region),
            control,
            manifest.current_snapshot(control),
            scan_rules(fleet),
            work_dir,
        )


def publish(fleet: Fleet, scans: list[dict[str, Any]]) -> dict[str, Any]:
    """Make the scans' results the current snapshot. Safe to repeat.

    {"snapshot_id", "complete", "regions": {name: …}, "layers", "refused", "missing", "heads", …}. A region that has no
    results, or not all, keeps the rows of the last snapshot and is marked as not complete.
    """
    regions = [region.name for region in fleet.regions]
    with _work_dir(fleet) as work_dir:
        return summary_of(publishing.publish(control_store(fleet), scans, regions, work_dir))


@contextmanager
def _work_dir(fleet: Fleet) -> Iterator[Path]:
    """Errors of the local disk (no space, no such folder) as one clear line. Permanent."""
    try:
        yield Path(fleet.work_dir)
    except OSError as error:
        raise Permanent(f"work directory {fleet.work_dir}: {error.strerror or error}") from error


def summary_of(snapshot: Snapshot) -> dict[str, Any]:
    """The result of a publication, as JSON."""
    regions = {
        name: {"objects": state.objects, "complete": state.complete, "note": state.note}
        for name, state in snapshot.regions.items()
    }
    return {
        "snapshot_id": snapshot.snapshot_id,
        "created_at": snapshot.created_at,
        "complete": snapshot.complete,
        "regions": regions,
        **snapshot.summary,
    }


def run_inventory(fleet: Fleet) -> dict[str, Any]:
    """Everything in one call, all regions at once: what `chainwright scan` and the demo use.

    A region that fails is reported under "errors" and keeps its last rows; the first error is raised if all fail. The
    result is that of `publish` with "scans" (per piece) and "errors" (per region).
    """
    names = [region.name for region in fleet.regions]
    with ThreadPoolExecutor(len(names)) as pool:
        outcomes = list(pool.map(lambda name: _scan_region(fleet, name), names))
    errors = {name: outcome for name, outcome in zip(names, outcomes, strict=True) if isinstance(outcome, Exception)}
    if len(errors) == len(names):
        raise next(iter(errors.values()))
    scans = [scan for outcome in outcomes if not isinstance(outcome, Exception) for scan in outcome]
    effort = [{key: value for key, value in scan.items() if key not in ("parts", "rules")} for scan in scans]
    return {
        **publish(fleet, scans),
        "scans": effort,
        "errors": {name: str(error) for name, error in errors.items()},
    }


def _scan_region(fleet: Fleet, region: str) -> list[dict[str, Any]] | ChainwrightError:
    try:
        return [scan_shard(fleet, shard) for shard in list_shards(fleet, region)]
    except ChainwrightError as error:
        return error
