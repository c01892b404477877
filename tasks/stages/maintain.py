"""What the maintenance DAGs do to one disk: check and plan what was asked for by hand; merge, then warm the result."""

import logging
from typing import Any

from tasks.chain.head import Head
from tasks.errors import ChainwrightError, ConfigError, Refused
from tasks.settings import Fleet
from tasks.store.connect import control_store
from tasks.store.heads import HeadStore

log = logging.getLogger(__name__)


def plan_disk(
    fleet: Fleet, disk_id: str, action: str, engine: str = "auto", region: str | None = None
) -> dict[str, Any]:
    """{"plan_id", "items", "text"}: the work items for one disk, and the plan in words.

    NotFound: no such disk. Refused (`disk_running`): its VM runs, and the engine is not `live`. ConfigError: no such
    region or action.
    """
    head = HeadStore(control_store(fleet)).read(disk_id).head
    if action == "warm":
        return _plan_warm(fleet, disk_id, region or head.home_region)
    if action != "merge":
        raise ConfigError(f"action {action!r}: merge or warm")
    if head.state == "running" and engine != "live":
        where = f" on {head.host}" if head.host else ""
        raise Refused("disk_running", f"disk {disk_id} is running{where}: stop it, or choose the engine live")
    if engine == "live":
        item = live_item(fleet, disk_id)
        text = f"live: stream the overlay of {disk_id} onto layer {item['base']}: {item['layers_before']} -> "
        return {"plan_id": None, "items": [item], "text": f"{text}{item['layers_after']} layers below it"}
    return _plan_merge(fleet, disk_id, engine)


def live_item(fleet: Fleet, disk_id: str) -> dict[str, Any]:
    """The work item that streams one running disk. Refused with the reason if there is nothing safe to do."""
    from tasks.stages import live

    home = HeadStore(control_store(fleet)).read(disk_id).head.home_region
    return {"kind": "live", "region": home, **live.choose_base(fleet, disk_id)}


def live_items(fleet: Fleet) -> list[dict[str, Any]]:
    """Work items for running disks over the length limit, where the policy lets their VMs stream (`live_streams`).

    At most `budget.actions`. A disk that no manifest has yet waits for the next run.
    """
    if not fleet.policy.live_streams:
        return []
    from tasks.stages import live

    long = {disk for disk, layers in live.lengths(fleet).items() if layers > fleet.policy.max_chain_length}
    items: list[dict[str, Any]] = []
    for entry in HeadStore(control_store(fleet)).entries():
        if len(items) >= fleet.policy.budget.actions:
            break
        if entry.head is not None and entry.disk_id in long and _may_stream(entry.head):
            items += _live_item_or_none(fleet, entry.disk_id)
    return items


def _may_stream(head: Head) -> bool:
    return head.state == "running" and head.qmp is not None and head.stream_base is None


def _live_item_or_none(fleet: Fleet, disk_id: str) -> list[dict[str, Any]]:
    """At most one item: a disk that cannot be looked at must not stop the plans of the others."""
    try:
        item = live_item(fleet, disk_id)
    except ChainwrightError as error:
        log.warning("disk %s is not streamed: %s", disk_id, error)
        return []
    return [item] if item["layers_before"] > fleet.policy.max_chain_length else []


def merge(fleet: Fleet, plan_id: str, action_id: str, attempt: str) -> dict[str, Any]:
    """Carry one action of a plan out (see `apply.apply_action`), then warm its result where the old layers were read.

    Its result, with "warmed": [{"region", "fetched_bytes"} or {"error"}]. Warming that fails does not fail the merge.
    """
    from tasks.stages import apply, warm

    done = apply.apply_action(fleet, plan_id, action_id, attempt)
    if done["outcome"] != "published":
        return done
    try:
        warmed = warm.warm_result(fleet, done["disk_id"])
    except ChainwrightError as error:
        warmed = [{"error": str(error)}]
    keep = ("region", "fetched_bytes", "error")
    return {**done, "warmed": [{name: one[name] for name in keep if name in one} for one in warmed]}


def _plan_merge(fleet: Fleet, disk_id: str, engine: str) -> dict[str, Any]:
    from tasks.stages import plan

    made = plan.make_plan(fleet, disks=(disk_id,), engine=engine)
    text = plan.explain_plan(fleet, made["plan_id"], disk_id)
    return {"plan_id": made["plan_id"], "items": made["actions"], "text": text}


def _plan_warm(fleet: Fleet, disk_id: str, region: str) -> dict[str, Any]:
    from tasks.stages import warm_plan

    fleet.region(region)
    items = [{"kind": "warm", **item} for item in warm_plan.plan_warm(fleet, disk=disk_id, region=region)]
    text = "\n".join(f"warm {item['disk_id']} in {item['region']}: {item['why']}" for item in items)
    return {"plan_id": None, "items": items, "text": text}
