"""Retire: delete what nothing needs any more, after the grace; and undo, for as long as the grace lasts."""

import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks import clock
from tasks.chain.head import head_to_json
from tasks.errors import Refused
from tasks.execute import undo as execute_undo
from tasks.execute.retire import FleetView, Retirement, RetireReport
from tasks.inventory.forest import load_forest
from tasks.inventory.manifest import current_snapshot
from tasks.inventory.manifest import stage as stage_manifest
from tasks.inventory.snapshot import Snapshot
from tasks.plan.policy import Safety
from tasks.settings import Fleet
from tasks.stages.inventory import run_inventory
from tasks.stages.warm_replaced import cold_replacements
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store, open_stores
from tasks.store.heads import new_attempt_id


def retire(fleet: Fleet, *, dry_run: bool = True, max_share: float | None = None) -> dict[str, Any]:
    """One run over the whole fleet; its report as JSON, with bytes and US dollars per month by region.

    `stopped` says which guard forbade every deletion. Raises the store's errors, and Refused (`inventory_incomplete`)
    if a region is missing from the inventory: then nothing was deleted. `max_share` overrides policy's share cap.
    """
    control = control_store(fleet)
    safety = fleet.policy.safety if max_share is None else replace(fleet.policy.safety, max_retired_share=max_share)
    run = make_run(fleet, control, safety)
    report = run.run(dry_run=dry_run)
    result = report_to_json(fleet, report)
    if not dry_run:
        control.put_new(keys.retirement(run.run_id), json.dumps(result, indent=1).encode())
    return result


def make_run(fleet: Fleet, control: ObjectStore, safety: Safety) -> Retirement:
    """A run that has not begun."""
    run_id = f"{clock.now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    look = _looker(fleet, control)
    return Retirement(open_stores(fleet), control, look, safety, run_id, lambda ids: cold_replacements(fleet, ids))


def undo(fleet: Fleet, disk_id: str, attempt_id: str | None = None) -> dict[str, Any]:
    """Point the head back to what it was before its last action; the record after it. See `tasks.execute.undo`."""
    version = execute_undo.undo(control_store(fleet), open_stores(fleet), disk_id, attempt_id or new_attempt_id())
    return head_to_json(version.head)


def _looker(fleet: Fleet, control: ObjectStore) -> Callable[[], FleetView]:
    """Each call is a complete inventory of its own. The shrink guard compares with the one before the run."""
    before = current_snapshot(control)

    def look() -> FleetView:
        result = run_inventory(fleet)
        snapshot = current_snapshot(control)
        if snapshot is None or not result["complete"] or not snapshot.complete:
            missing = [name for name, state in result["regions"].items() if not state["complete"]]
            text = f"regions {', '.join(missing) or 'unknown'} could not be listed in full: nothing is deleted"
            raise Refused("inventory_incomplete", text)
        folder = stage_manifest(control, snapshot, Path(fleet.work_dir) / "manifests")
        forest, etags = load_forest(folder, control.now())
        return FleetView(forest, etags, heads_before=_count(before, "heads"), layers_before=_count(before, "layers"))

    return look


def _count(snapshot: Snapshot | None, name: str) -> int:
    return snapshot.summary.get(name, 0) if snapshot else 0


def report_to_json(fleet: Fleet, report: RetireReport) -> dict[str, Any]:
    """The report as DAGs, the command line and the audit record show it."""
    prices = {region.name: region.storage_usd_per_gb_month for region in fleet.regions}
    return {
        "run_id": report.run_id,
        "dry_run": report.dry_run,
        "stopped": report.stopped,
        "marked": list(report.marked),
        "saved": list(report.saved),
        "swept": list(report.swept),
        "kept_anew": list(report.kept_anew),
        "changed": list(report.changed),
        "waiting": report.waiting,
        "capped": report.capped,
        "kept": report.kept,
        "cold": report.cold,
        "freed_bytes": report.freed_bytes,
        "freed_usd_per_month": {
            name: prices.get(name, 0.0) * count / 1e9 for name, count in report.freed_bytes.items()
        },
        "aborted_uploads": list(report.aborted_uploads),
    }
