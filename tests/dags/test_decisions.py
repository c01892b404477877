"""The few decisions that DAG files make themselves, called as plain functions."""

import os
import signal
import time
from typing import Any

import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("dags")]

WORK = ["work_us_east", "work_eu_west", "work_ap_south"]
ITEM = {"kind": "merge", "disk_id": "a", "region": "eu-west", "plan_id": "p", "action_id": "x"}


def gate(plan: dict[str, Any], **params: Any) -> Any:
    from dags import chain_maintenance_dag

    defaults = {"dry_run": False, "approve": "policy", "disks": []}
    return chain_maintenance_dag.gate.function(plan, {**defaults, **params})


def plan(items: int, moved: int, copied: int = 0) -> dict[str, Any]:
    return {"items": [ITEM] * items, "bytes": moved, "copied_bytes": copied, "dry_run": False, "plan_id": "p"}


def test_a_small_plan_needs_nobody() -> None:
    assert gate(plan(1, 10)) == WORK


def test_a_plan_above_the_threshold_waits_for_a_person() -> None:
    from dags.defaults import fleet

    limit = fleet().policy.approve_above_bytes
    assert gate(plan(1, limit)) == WORK
    assert gate(plan(1, limit + 1)) == "approve"


def test_what_stores_copy_themselves_counts_too() -> None:
    """Bytes through workers are bounded by the budget, far below the threshold: alone they never asked anybody."""
    from dags.defaults import fleet

    limit = fleet().policy.approve_above_bytes
    assert gate(plan(1, 10, limit)) == "approve"


def test_a_person_may_be_asked_always_or_never() -> None:
    assert gate(plan(1, 10), approve="always") == "approve"
    assert gate(plan(1, 1 << 60), approve="never") == WORK


def test_nobody_is_asked_about_nothing() -> None:
    assert gate(plan(0, 1 << 60), approve="always") == WORK
    assert gate(plan(1, 1 << 60), approve="always", dry_run=True) == WORK


def pick(region: str, of: dict[str, Any]) -> Any:
    from dags.defaults import regions
    from dags.work import pick_items

    assert region in {one.name for one in regions()}
    return pick_items(of, region)


def test_each_region_gets_its_own_items() -> None:
    items = [{**ITEM, "region": region, "disk_id": disk} for region, disk in (("eu-west", "a"), ("us-east", "b"))]
    made = {"items": items, "dry_run": False}
    assert [item["disk_id"] for item in pick("eu-west", made)] == ["a"]
    assert [item["disk_id"] for item in pick("us-east", made)] == ["b"]
    assert pick("ap-south", made) == []


def test_a_dry_run_does_nothing() -> None:
    assert pick("eu-west", {"items": [ITEM], "dry_run": True}) == []


def test_more_than_airflow_can_map_is_left_for_the_next_run() -> None:
    assert len(pick("eu-west", {"items": [ITEM] * 3000, "dry_run": False})) == 1000


def test_a_cancelled_task_interrupts_its_live_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow sends SIGTERM. The stream cancels the VM's job when it is interrupted; it was killed instead."""
    from dags import work
    from tasks.stages import live

    def stream(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(live, "stream", stream)
    monkeypatch.setattr(work, "fleet", lambda: None)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # should nobody care
    try:
        with pytest.raises(KeyboardInterrupt):
            work.run_item({"kind": "live", "disk_id": "d", "region": "us-east", "base": "b"}, "try")
    finally:
        signal.signal(signal.SIGTERM, before)
