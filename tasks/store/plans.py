"""Plans in the control store: `plans/<plan_id>.json`, written once, never changed.

The maps of a plan's runs are objects of their own, beside the manifest snapshot that they are from.
"""

import hashlib
import json
from contextlib import suppress

from tasks.errors import NotFound, Permanent, PreconditionFailed
from tasks.plan.codec import plan_from_json, plan_to_json
from tasks.plan.steps import MergeAction, Plan
from tasks.store import keys
from tasks.store.base import ObjectStore


def store_plan(control: ObjectStore, plan: Plan) -> None:
    """Write the plan once; the same plan again is no error. PreconditionFailed if another has its name."""
    for name, maps in plan.maps.items():
        with suppress(PreconditionFailed):  # named by their content
            control.put_new(name, maps)
    body = json.dumps(plan_to_json(plan), separators=(",", ":")).encode()
    key = keys.plan(plan.plan_id)
    try:
        control.put_new(key, body)
    except PreconditionFailed:
        if control.get(key)[0] != body:
            raise


def load_plan(control: ObjectStore, plan_id: str) -> Plan:
    """The stored plan. NotFound; Permanent if the object is not a plan."""
    key = keys.plan(plan_id)
    try:
        body, _ = control.get(key)
    except NotFound:
        raise NotFound(f"no plan {plan_id!r} in {control.bucket}") from None
    try:
        return plan_from_json(json.loads(body))
    except (ValueError, KeyError, TypeError) as error:
        raise Permanent(f"{control.bucket}/{key}: not a plan: {error}") from None


def load_maps(control: ObjectStore, action: MergeAction) -> bytes | None:
    """The maps of an action's run, or None if they are not stored (any more). Permanent if they are damaged."""
    if not action.maps:
        return None
    try:
        body, _ = control.get(action.maps)
    except NotFound:
        return None
    if hashlib.sha256(body).hexdigest() != action.maps.rpartition("/")[2]:
        raise Permanent(f"{control.bucket}/{action.maps}: damaged: not the bytes that the plan names")
    return body


def load_action(control: ObjectStore, plan_id: str, action_id: str) -> MergeAction:
    """One action of a stored plan. NotFound if the plan has no such action."""
    for action in load_plan(control, plan_id).actions:
        if action.action_id == action_id:
            return action
    raise NotFound(f"plan {plan_id} has no action {action_id!r}")
