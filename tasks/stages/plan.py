"""Plan: from the current manifest to a stored plan, and back: load, explain, check again before it is carried out.

A plan is one immutable object, `plans/<plan_id>.json` in the control region's bucket. What it says is what is shown,
approved and executed; only `recheck` may take parts away, each with its reason.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks import clock
from tasks.analytics.duck import open_manifest
from tasks.analytics.narrow import narrow
from tasks.analytics.planner_inputs import Request, fleet_input
from tasks.analytics.planner_refine import exact_plan
from tasks.chain.head import Head
from tasks.errors import ConfigError, NotFound, Permanent, Refused
from tasks.execute.runner import ENGINES
from tasks.plan.engine import ORDER
from tasks.plan.explain import explain, through_worker
from tasks.plan.inputs import Tools
from tasks.plan.policy import Budget, Policy
from tasks.plan.recheck import HeadNow, recheck, stale
from tasks.plan.steps import MergeAction, Plan, Skip
from tasks.qemu import img
from tasks.settings import Fleet
from tasks.stages.findings import staged
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store
from tasks.store.heads import HeadStore
from tasks.store.plans import load_plan, store_plan

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What a person or a DAG asks of a plan. `budget` overrides fields of the policy's budget."""

    disks: tuple[str, ...] = ()  # empty: the whole fleet
    engine: str = "auto"  # auto, or the only engine that may be used
    budget: Mapping[str, float] | None = None


def make_plan(fleet: Fleet, *, disks: Sequence[str] = (), engine: str = "auto") -> dict[str, Any]:
    """Make a plan of the current manifest and store it; its summary, as small JSON.

    NotFound: no manifest yet, or a disk that it does not know. Refused: a disk was asked for and nothing can be done
    for it (the reason is the skip's code).
    """
    plan = build(fleet, Options(tuple(disks), engine))
    store_plan(control_store(fleet), plan)
    if disks and not plan.actions:
        raise_first(plan)
    return summary(plan)


def explain_plan(fleet: Fleet, plan_id: str, disk: str | None = None) -> str:
    """The stored plan as text."""
    return explain(load_plan(control_store(fleet), plan_id), fleet.policy.budget, disk)


def build(fleet: Fleet, options: Options = Options(), *, control: ObjectStore | None = None) -> Plan:
    """A plan of the current manifest, held against the heads as they are now. Stores nothing."""
    control = control or control_store(fleet)
    folder, snapshot = staged(fleet, control)
    policy = policy_of(fleet.policy, options)
    plan = plan_of_manifest(folder, fleet, snapshot.snapshot_id, policy, options)
    return recheck(plan, _heads_now(control, plan), policy, plan.created_at)


def plan_of_manifest(folder: Path, fleet: Fleet, snapshot_id: str, policy: Policy, options: Options) -> Plan:
    """A plan of a staged manifest alone."""
    request = Request(snapshot_id, clock.now().isoformat(), policy, options.disks, tools_of(options.engine))
    with open_manifest(folder) as connection:
        if options.disks:
            narrow(connection, options.disks)
        return exact_plan(connection, fleet_input(connection, fleet, request))


def tools_of(engine: str) -> Tools:
    """What the workers run; ConfigError for an engine that there is not."""
    version = tuple(int(part) for part in img.version().split(".") if part.isdigit())
    if engine == "auto":
        return Tools(version, frozenset(ENGINES))
    if engine not in ORDER:
        raise ConfigError(f"unknown engine {engine!r}: auto, {', '.join(ORDER)}")
    return Tools(version, frozenset({engine}) & frozenset(ENGINES))


def policy_of(policy: Policy, options: Options) -> Policy:
    """The fleet's policy with the budget's overrides. ConfigError for a field that there is not."""
    known = Budget.__dataclass_fields__
    changes: dict[str, float] = {}
    for name, value in (options.budget or {}).items():
        if name not in known:
            raise ConfigError(f"unknown budget {name!r}: {', '.join(known)}")
        if value < 0:
            raise ConfigError(f"budget {name}: {value} is negative")
        changes[name] = value if name == "egress_usd" else int(value)
    return replace(policy, budget=replace(policy.budget, **changes))  # type: ignore[arg-type]


def summary(plan: Plan) -> dict[str, Any]:
    """What goes through XCom."""
    return {
        "plan_id": plan.plan_id,
        "snapshot_id": plan.snapshot_id,
        "actions": [_item(plan, action) for action in plan.actions],
        "skips": len(plan.skips),
        "bytes": through_worker(plan.total),
        "copied_bytes": sum(plan.total.copy_bytes.values()),
        "egress_usd": plan.total.egress_usd,
        "seconds": plan.total.seconds,
    }


def _item(plan: Plan, action: MergeAction) -> dict[str, Any]:
    return {
        "kind": "merge",
        "plan_id": plan.plan_id,
        "action_id": action.action_id,
        "disk_id": action.disk_id,
        "region": action.home_region,
        "engine": action.engine,
        "layers_removed": action.benefit.layers_removed,
        "bytes": through_worker(action.cost),
    }


def raise_first(plan: Plan) -> None:
    """Refused, with the reason of the first skip: a person asked for a merge that cannot be."""
    for skip in plan.skips:
        raise Refused(skip.reason, f"disk {skip.disk_id}: {skip.detail}")


def recheck_action(control: ObjectStore, action: MergeAction, policy: Policy) -> Skip | None:
    """Why the action must not be carried out now, or None."""
    return stale(action, _head_now(HeadStore(control), action.disk_id), policy, clock.now().isoformat())


def _heads_now(control: ObjectStore, plan: Plan) -> dict[str, HeadNow]:
    """The heads of the plan's disks, without those that are gone or whose record cannot be understood."""
    heads, found = HeadStore(control), {}
    for action in plan.actions:
        try:
            head = _head_now(heads, action.disk_id)
        except Permanent as problem:  # the other disks' merges do not wait for this record
            log.warning("disk %s is left alone: %s", action.disk_id, problem)
            continue
        if head is not None:
            found[action.disk_id] = head
    return found


def _head_now(heads: HeadStore, disk_id: str) -> HeadNow | None:
    try:
        head: Head = heads.read(disk_id).head
    except NotFound:
        return None
    if head.lease is None:
        return HeadNow(head.tip, head.state, head.home_region)
    return HeadNow(head.tip, head.state, head.home_region, head.lease.action_id, head.lease.expires_at)
