"""Plans as JSON for the pages: the plan's own figures, and the sentences that its reason codes stand for."""

from typing import Any

from tasks.plan.explain import budget_rows, chain_after, chain_before, skip_counts, through_worker
from tasks.plan.policy import Budget
from tasks.plan.reasons import HAZARDS, SKIPS
from tasks.plan.steps import LayerRef, MergeAction, Plan, Skip


def action_json(action: MergeAction) -> dict[str, Any]:
    """One merge, with what it costs and brings."""
    cost, benefit = action.cost, action.benefit
    return {
        "action_id": action.action_id,
        "disk_id": action.disk_id,
        "home_region": action.home_region,
        "reason": action.reason,
        "engine": action.engine,
        "engine_reason": action.engine_reason,
        "engines_refused": [
            {"engine": engine, "why": why, "meaning": HAZARDS.get(why.split(":", 1)[0], "")}
            for engine, why in sorted(action.engines_refused.items())
        ],
        "layers_before": chain_before(action),
        "layers_after": chain_after(action),
        "above": _part(action.above),
        "run": _part(action.run),
        "base": action.base.layer_id if action.base else None,
        "below": len(action.below),
        "worker_bytes": through_worker(cost),
        "copy_bytes": sum(cost.copy_bytes.values()),
        "read_bytes": cost.read_bytes,
        "write_bytes": cost.write_bytes,
        "requests": cost.requests,
        "egress_usd": cost.egress_usd,
        "temp_bytes": cost.temp_bytes,
        "seconds": cost.seconds,
        "freed_bytes": benefit.freed_bytes,
        "memory_bytes": benefit.memory_bytes,
        "first_read_seconds": benefit.first_read_seconds,
        "score": benefit.score,
    }


def skip_json(skip: Skip) -> dict[str, Any]:
    """One disk left alone, and why."""
    return {
        "disk_id": skip.disk_id,
        "reason": skip.reason,
        "meaning": SKIPS.get(skip.reason, ""),
        "detail": skip.detail,
    }


def plan_json(plan: Plan, budget: Budget, offset: int, limit: int) -> dict[str, Any]:
    """The plan's head, one page of its actions, its budgets, and its skips by reason."""
    return {
        "plan_id": plan.plan_id,
        "snapshot_id": plan.snapshot_id,
        "created_at": plan.created_at,
        "actions": [action_json(action) for action in plan.actions[offset : offset + limit]],
        "total": len(plan.actions),
        "offset": offset,
        "limit": limit,
        "skips": [{"reason": code, "count": n, "meaning": meaning} for code, n, meaning in skip_counts(plan)],
        "skipped": len(plan.skips),
        "budgets": [
            {"name": row.name, "used": row.used, "limit": row.limit, "share": row.share, "text": row.text}
            for row in budget_rows(plan, budget)
        ],
    }


def _part(layers: tuple[LayerRef, ...]) -> dict[str, Any]:
    return {
        "layers": len(layers),
        "bytes": sum(layer.size_bytes for layer in layers),
        "top": layers[0].layer_id if layers else None,
        "bottom": layers[-1].layer_id if layers else None,
    }
