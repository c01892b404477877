"""Plans in the control store: `plans/<plan_id>.json`, written once, never changed."""

import json

from tasks.errors import NotFound, Permanent, PreconditionFailed
from tasks.plan.codec import plan_from_json, plan_to_json
from tasks.plan.steps import MergeAction, Plan
from tasks.store import keys
from tasks.store.base import ObjectStore


def store_plan(control: ObjectStore, plan: Plan) -> None:
    """Write the plan once; the same plan again is no error. PreconditionFailed if another has its name."""
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


def load_action(control: ObjectStore, plan_id: str, action_id: str) -> MergeAction:
    """One action of a stored plan. NotFound if the plan has no such action."""
    for action in load_plan(control, plan_id).actions:
        if action.action_id == action_id:
            return action
    raise NotFound(f"plan {plan_id} has no action {action_id!r}")
