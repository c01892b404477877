"""The stored plans, what the planner says of one disk, and receipts."""

import collections
import datetime
import functools
import json
import re
from typing import Annotated, Any

from fastapi import APIRouter, Query

from tasks.errors import ChainwrightError, NotFound, Permanent, Transient
from tasks.plan.steps import Plan
from tasks.settings import Fleet
from tasks.stages import plan as plan_stage
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store
from tasks.store.plans import load_plan

from .guard import MAY_SEE
from .planview import action_json, plan_json, skip_json
from .problems import Problem, Unavailable, iso
from .snapshots import View
from .state import ViewNow
from .tables import plain

router = APIRouter(dependencies=MAY_SEE)

RECENT_PLANS = 20
RECENT_DAYS = 7
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

PlanId = Annotated[str, Query(max_length=200)]
Limit = Annotated[int, Query(ge=1, le=200)]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]


@router.get("/plans")
def plans(view: ViewNow) -> list[dict[str, Any]]:
    """The newest stored plans, newest first."""
    control = _control(view)
    since = view.staged.created_at - datetime.timedelta(days=RECENT_DAYS)
    found = _newest(control, f"{keys.PLANS}plan-{since:%Y%m%d%H%M%S}") or _newest(control, "")
    return [{"plan_id": name, "stored_at": iso(moment)} for name, moment in reversed(found)]


@router.get("/plan")
def one_plan(view: ViewNow, plan_id: PlanId, offset: Offset = 0, limit: Limit = 25) -> dict[str, Any]:
    """One page of a plan's actions, with its budgets and its skips by reason."""
    plan = _plan(view, plan_id)
    return plan_json(plan, view.fleet.policy.budget, offset, limit)


@router.get("/skips")
def skips(
    view: ViewNow,
    plan_id: PlanId,
    reason: Annotated[str, Query(max_length=100)] = "",
    offset: Offset = 0,
    limit: Limit = 25,
) -> dict[str, Any]:
    """One page of the disks that a plan leaves alone."""
    plan = _plan(view, plan_id)
    chosen = [skip for skip in plan.skips if reason in {"", skip.reason}]
    page = chosen[offset : offset + limit]
    return {"rows": [skip_json(skip) for skip in page], "total": len(chosen), "offset": offset, "limit": limit}


@router.get("/verdict")
def verdict(disk: Annotated[str, Query(min_length=1, max_length=1100)], view: ViewNow) -> dict[str, Any]:
    """What a plan for this disk alone says: what a dry run would print."""
    plan = plan_stage.plan_of_manifest(
        view.staged.directory,
        view.fleet,
        view.staged.snapshot_id,
        view.fleet.policy,
        plan_stage.Options(disks=(disk,)),
    )
    return {
        "actions": [action_json(action) for action in plan.actions],
        "skips": [skip_json(skip) for skip in plan.skips],
    }


@router.get("/receipt/{action_id}")
def receipt(action_id: str, view: ViewNow) -> dict[str, Any]:
    """The record of an action as it is kept in the store: intent, attempts, proof, figures."""
    if not _NAME.fullmatch(action_id):
        raise NotFound(f"no action {action_id!r}")
    key = keys.action(action_id)
    try:
        body, info = _control(view).get(key)
    except NotFound:
        raise NotFound(f"no action {action_id!r} in the store") from None
    except ChainwrightError as error:
        raise _unreachable(error) from error
    try:
        record = json.loads(body)
    except ValueError:
        raise Permanent(f"{key}: not a receipt") from None
    return {"action_id": action_id, "written_at": iso(info.last_modified), "receipt": plain(record)}


def _newest(control: ObjectStore, start_after: str) -> list[tuple[str, datetime.datetime]]:
    """Plans' names carry their time, so the last ones of the listing are the newest."""
    try:
        last = collections.deque(control.list(keys.PLANS, start_after), RECENT_PLANS)
    except ChainwrightError as error:
        raise _unreachable(error) from error
    return [(info.key.removeprefix(keys.PLANS).removesuffix(".json"), info.last_modified) for info in last]


def _plan(view: View, plan_id: str) -> Plan:
    if not _NAME.fullmatch(plan_id):
        raise NotFound(f"no plan {plan_id!r}")
    try:
        return _kept_plan(view.fleet, plan_id)
    except Transient as error:
        raise _unreachable(error) from error


class _FleetKey:
    """Lets the cache below tell fleets apart by their control bucket: settings are not hashable."""

    def __init__(self, fleet: Fleet) -> None:
        region = fleet.region(fleet.control_region)
        self.fleet = fleet
        self.identity = (region.endpoint, region.bucket)

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _FleetKey) and other.identity == self.identity


def _kept_plan(fleet: Fleet, plan_id: str) -> Plan:
    return _load_plan(_FleetKey(fleet), plan_id)


@functools.lru_cache(maxsize=2)
def _load_plan(key: _FleetKey, plan_id: str) -> Plan:
    """A plan never changes; one of a large fleet takes seconds to read."""
    return load_plan(control_store(key.fleet), plan_id)


def _control(view: View) -> ObjectStore:
    return control_store(view.fleet)


def _unreachable(error: ChainwrightError) -> Unavailable:
    line = " ".join(str(error).split())
    return Unavailable(Problem("store_unreachable", "The object store cannot be reached", line))
