"""Plan and action to JSON and back. Raises KeyError or TypeError on fields that are missing or unknown."""

from dataclasses import asdict
from typing import Any

from tasks.plan.steps import Benefit, Cost, LayerRef, MergeAction, Plan, Skip


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """JSON form without the maps; the inverse of `plan_from_json`."""
    raw = asdict(plan)
    del raw["maps"]
    return raw


def plan_from_json(raw: dict[str, Any]) -> Plan:
    """The plan, equal to what was written."""
    return Plan(
        **{
            **raw,
            "actions": tuple(action_from_json(item) for item in raw["actions"]),
            "skips": tuple(Skip(**item) for item in raw["skips"]),
            "total": Cost(**raw["total"]),
        }
    )


def action_to_json(action: MergeAction) -> dict[str, Any]:
    """JSON form; the inverse of `action_from_json`."""
    return asdict(action)


def action_from_json(raw: dict[str, Any]) -> MergeAction:
    """The action, equal to what was written."""
    return MergeAction(
        **{
            **raw,
            "above": tuple(LayerRef(**item) for item in raw["above"]),
            "run": tuple(LayerRef(**item) for item in raw["run"]),
            "base": LayerRef(**raw["base"]) if raw["base"] else None,
            "below": tuple(LayerRef(**item) for item in raw["below"]),
            "cost": Cost(**raw["cost"]),
            "benefit": Benefit(**raw["benefit"]),
        }
    )
