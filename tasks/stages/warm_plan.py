"""What is to be warmed where, and why: the hotspots of the reads, merges, and the starts that are due."""

from pathlib import Path
from typing import Any

from tasks.analytics.duck import open_manifest
from tasks.analytics.queries import run
from tasks.analytics.sqlfiles import find
from tasks.inventory.manifest import current_snapshot, stage
from tasks.plan.warming import WarmTarget, why
from tasks.settings import Fleet
from tasks.store.connect import control_store
from tasks.store.heads import HeadStore

_MAX_TARGETS = 500


def plan_warm(fleet: Fleet, *, disk: str | None = None, region: str | None = None) -> list[dict[str, Any]]:
    """Which disk in which region, most bytes that guests waited for first.

    {"disk_id", "region", "reason", "miss_bytes", "starts", "why"}. A disk that is asked for by name is warmed where it
    is read, or else at home; a region that is asked for is taken as it is. NotFound: unknown disk.
    """
    if region is not None:
        fleet.region(region)
    cached = _cached_regions(fleet)
    targets = [
        target
        for target in _targets(fleet)
        if target.region in cached and disk in (None, target.disk_id) and region in (None, target.region)
    ]
    if disk is not None and not targets:
        home = HeadStore(control_store(fleet)).read(disk).head.home_region
        targets = [WarmTarget(disk, region or home, "asked_for", home)]
    return [_item(target, fleet.policy.bring_home) for target in targets[:_MAX_TARGETS]]


def reader_regions(fleet: Fleet, disk_id: str) -> list[str]:
    """The regions with a cache whose guests read the disk lately, most bytes first."""
    cached = _cached_regions(fleet)
    rows = _query(fleet, "disk_readers", {"disk_id": disk_id})
    return [row["region"] for row in rows if row["region"] in cached]


def _targets(fleet: Fleet) -> list[WarmTarget]:
    return [
        WarmTarget(
            row["disk_id"], row["region"], row["reason"], row["home_region"], row["miss_bytes"], row["starts"]
        )
        for row in _query(fleet, "warm_targets", {})
    ]  # fmt: skip


def _query(fleet: Fleet, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a finding over the current manifest; none before the first scan."""
    control = control_store(fleet)
    snapshot = current_snapshot(control)
    if snapshot is None:
        return []
    with open_manifest(stage(control, snapshot, Path(fleet.work_dir) / "manifests")) as connection:
        return run(connection, find(name), parameters).dicts()


def _cached_regions(fleet: Fleet) -> set[str]:
    return {one.name for one in fleet.regions if one.cache_url}


def _item(target: WarmTarget, bring_home: bool) -> dict[str, Any]:
    return {
        "disk_id": target.disk_id,
        "region": target.region,
        "reason": target.reason,
        "miss_bytes": target.miss_bytes,
        "starts": target.starts,
        "why": why(target, bring_home=bring_home),
    }
