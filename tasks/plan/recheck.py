"""A plan made earlier, held against the heads as they are now: stale parts are dropped, each with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tasks.plan.candidates import window_open
from tasks.plan.cost import total
from tasks.plan.policy import Policy
from tasks.plan.steps import MergeAction, Plan, Skip


@dataclass(frozen=True, slots=True)
class HeadNow:
    """What counts of a head record at this moment."""

    tip: str
    state: str
    home_region: str
    lease_action: str | None = None
    lease_expires_at: str | None = None  # ISO 8601, UTC


def recheck(plan: Plan, heads: Mapping[str, HeadNow], policy: Policy, now: str) -> Plan:
    """The plan without what no longer holds. `heads` holds every disk of the plan that still exists."""
    kept, dropped = [], []
    for action in plan.actions:
        skip = stale(action, heads.get(action.disk_id), policy, now)
        if skip is None:
            kept.append(action)
        else:
            dropped.append(skip)
    skips = sorted((*plan.skips, *dropped), key=lambda skip: (skip.disk_id, skip.reason))
    return replace(plan, actions=tuple(kept), skips=tuple(skips), total=total(action.cost for action in kept))


def stale(action: MergeAction, head: HeadNow | None, policy: Policy, now: str) -> Skip | None:
    """Why the action must not be carried out any more, or None."""
    found = _stale(action, head, policy, now)
    return Skip(action.disk_id, *found) if found else None


def _stale(action: MergeAction, head: HeadNow | None, policy: Policy, now: str) -> tuple[str, str] | None:
    if head is None:
        return "stale_head", "the disk is gone, or its head cannot be read"
    if head.state != "idle":
        return "running_disk", "a VM was started after the plan was made"
    if head.tip != action.tip:
        return "stale_head", f"the tip is {head.tip}, the plan was made for {action.tip}"
    if head.home_region != action.home_region:
        return "stale_head", f"the disk lives in {head.home_region}, the plan was made for {action.home_region}"
    if action.disk_id in policy.protected_disks:
        return "protected_disk", "named in policy.protected_disks"
    leased = head.lease_expires_at is not None and head.lease_expires_at > now
    if leased and head.lease_action != action.action_id:
        return "leased", f"action {head.lease_action} until {head.lease_expires_at}"
    if action.reason != "requested" and not window_open(policy.window, now):
        return "outside_window", f"window {policy.window} UTC, now {now[11:16]}"
    return None
