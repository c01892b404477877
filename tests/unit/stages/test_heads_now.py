"""A plan is held against the heads as they are: one broken record concerns one disk."""

from types import SimpleNamespace
from typing import Any, cast

from tasks.chain.head import Head
from tasks.plan.steps import Plan
from tasks.stages import plan as stage
from tasks.store import keys
from tasks.store.heads import render_head
from tests.fakes.store import MemoryStore


def test_a_malformed_head_does_not_stop_the_plan_of_the_others() -> None:
    control = MemoryStore("us-east", "control")
    control.put_new(keys.head("good"), render_head(Head("good", "0" * 32, "disk", "us-east", generation=1)))
    control.put_new(keys.head("broken"), b'{"disk_id": "broken"')
    actions: Any = [SimpleNamespace(disk_id=disk) for disk in ("broken", "gone", "good")]
    found = stage._heads_now(control, cast("Plan", SimpleNamespace(actions=actions)))
    assert list(found) == ["good"]
