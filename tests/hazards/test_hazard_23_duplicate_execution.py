"""Hazard 23: the scheduler runs a task twice, or again after it succeeded. One publish; other runs do nothing."""

from pathlib import Path

import pytest

from tasks.execute.receipt import Receipt
from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tasks.store.heads import HeadStore
from tests.support.chains import LayerSpec, build
from tests.support.hazard import MIB
from tests.support.merges import Stores, layer_keys, merge_action, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


def test_thrice_the_same_task(fleet: Fleet, stores: Stores, tmp_path: Path) -> None:
    chain = build(tmp_path / "c", [LayerSpec(8 * MIB, writes=(("write", n * MIB, MIB, n + 1),)) for n in range(3)])
    action = merge_action(publish_chain(fleet, stores, chain, "d1"), "d1", "compose", 0, 1)
    second: list[Receipt] = []

    def again(name: str) -> None:
        if name == "verified" and not second:
            second.append(apply_merge(fleet, action, "task.try1"))

    first = apply_merge(fleet, action, "task.try1", checkpoint=again)
    version = HeadStore(stores["us-east"]).read("d1")
    third = apply_merge(fleet, action, "task.try2")
    assert [r.outcome for r in (first, second[0], third)] == ["superseded", "published", "published"]
    assert third.new_tip == second[0].new_tip == version.head.tip
    assert HeadStore(stores["us-east"]).read("d1") == version
    assert layer_keys(stores) == set(chain.layers) | set(second[0].new_layers)
