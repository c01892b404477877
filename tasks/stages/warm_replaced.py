"""Is what replaced a layer cached where the layer was read? Retirement asks before it deletes.

A merge warms its result itself; the DAG `cache_warm` goes on with what that left (reason `replaced`). Here nothing is
fetched, only looked at.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tasks.analytics.duck import open_manifest
from tasks.analytics.queries import run_arrow
from tasks.analytics.sqlfiles import load
from tasks.errors import ChainwrightError, NotFound
from tasks.inventory.manifest import current_snapshot, stage
from tasks.settings import Fleet
from tasks.stages import warm
from tasks.store.connect import control_store
from tasks.units import human_bytes

logger = logging.getLogger(__name__)

_DAYS = 14  # of reads before the tombstone, as for `warm_result`
_AT_ONCE = 4  # disks that are looked at; each asks its cache from many threads


def cold_replacements(fleet: Fleet, layer_ids: Sequence[str]) -> dict[str, str]:
    """Layer id -> the disk and region that read it and whose new chain is not cached there, and why not. Never raises.

    A cache that does not answer, or a chain that cannot be read, counts as cold: the layers wait, for a bounded time.
    """
    try:
        readers = _readers(fleet, layer_ids)
    except ChainwrightError as error:
        return dict.fromkeys(layer_ids, f"who read it is not known: {error}")
    pairs = sorted({pair for found in readers.values() for pair in found})
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        reasons = dict(zip(pairs, pool.map(lambda pair: why_cold(fleet, *pair), pairs), strict=True))
    cold = {layer_id: [reasons[pair] for pair in found if reasons[pair]] for layer_id, found in readers.items()}
    return {layer_id: "; ".join(found) for layer_id, found in cold.items() if found}


def why_cold(fleet: Fleet, disk_id: str, region: str) -> str:
    """What the region's cache lacks for a full read of the disk that asks no other region; "" if nothing.

    What warming may not fetch (the cache is full of hotter things) is not waited for.
    """
    try:
        seen = warm.warm(fleet, disk_id, region, dry_run=True)
    except NotFound:
        return ""  # the disk is gone
    except ChainwrightError as error:
        return f"disk {disk_id} in {region}: {error}"
    lacking = min(int(seen["missing_remote_bytes"]), int(seen["allowed_bytes"]))
    return f"disk {disk_id} in {region}: {human_bytes(lacking)} of its new chain not cached" if lacking else ""


def _readers(fleet: Fleet, layer_ids: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """(disk, region) by layer, of the regions that have a cache."""
    control = control_store(fleet)
    snapshot = current_snapshot(control)
    if snapshot is None:
        return {}
    cached = {one.name for one in fleet.regions if one.cache_url}
    days = _DAYS + round((fleet.policy.safety.grace_hours + fleet.policy.safety.warm_wait_hours) / 24)
    with open_manifest(stage(control, snapshot, Path(fleet.work_dir) / "manifests")) as connection:
        asked = {"layer_ids": list(layer_ids), "days": days}
        rows = run_arrow(connection, load("plan", "warm_replaced"), asked).to_pylist()
    found: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        if row["region"] in cached:
            found.setdefault(row["layer_id"], []).append((row["disk_id"], row["region"]))
    return found
