"""A plan held against later heads."""

from dataclasses import replace

import pytest

from tasks.plan.builder import build_plan
from tasks.plan.policy import Policy
from tasks.plan.recheck import HeadNow, recheck, stale
from tests.support.plans import NOW, fleet, long_chain

PLAN = build_plan(fleet(long_chain(12, "a"), long_chain(12, "b", 100)))
HEADS = {action.disk_id: HeadNow(action.tip, "idle", "us") for action in PLAN.actions}
LATER = "2026-03-01T12:00:01+00:00"


def test_nothing_changed() -> None:
    assert recheck(PLAN, HEADS, Policy(), NOW) == PLAN


CASES = [
    ("another tip", {"tip": "f" * 32}, Policy(), "stale_head"),
    ("started", {"state": "running"}, Policy(), "running_disk"),
    ("started and stopped with a new tip", {"tip": "f" * 32, "state": "running"}, Policy(), "running_disk"),
    ("moved", {"home_region": "eu"}, Policy(), "stale_head"),
    ("leased by another", {"lease_action": "x", "lease_expires_at": LATER}, Policy(), "leased"),
    ("protected since", {}, Policy(protected_disks=("a",)), "protected_disk"),
    ("window closed since", {}, Policy(window="13:00-14:00"), "outside_window"),
]


@pytest.mark.parametrize(("changes", "policy", "code"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_dropped_with_a_reason(changes: dict[str, str], policy: Policy, code: str) -> None:
    heads = {**HEADS, "a": replace(HEADS["a"], **changes)}  # type: ignore[arg-type]
    checked = recheck(PLAN, heads, policy, NOW)
    assert [skip.reason for skip in checked.skips if skip.disk_id == "a"] == [code]
    assert "a" not in {action.disk_id for action in checked.actions}
    assert checked.plan_id == PLAN.plan_id
    assert checked.total.requests == sum(action.cost.requests for action in checked.actions)


def test_gone() -> None:
    checked = recheck(PLAN, {"b": HEADS["b"]}, Policy(), NOW)
    assert [(skip.disk_id, skip.reason) for skip in checked.skips] == [("a", "stale_head")]


def test_its_own_lease_and_an_old_one_do_not_matter() -> None:
    action = PLAN.actions[0]
    mine = replace(HEADS[action.disk_id], lease_action=action.action_id, lease_expires_at=LATER)
    assert stale(action, mine, Policy(), NOW) is None
    old = replace(HEADS[action.disk_id], lease_action="x", lease_expires_at=NOW)
    assert stale(action, old, Policy(), NOW) is None
