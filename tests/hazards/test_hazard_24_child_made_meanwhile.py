"""Hazard 24: between the plan and the publish, somebody builds on a layer of the run. Its disk must stay what it is."""

from pathlib import Path

import pytest

from tasks.chain.head import Head
from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tasks.store.heads import HeadStore
from tests.support.chains import Chain, LayerSpec, add_layer, build, guest_sha256
from tests.support.hazard import MIB
from tests.support.merges import Stores, disk_sha256, merge_action, publish_chain, upload_layer

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


@pytest.mark.parametrize("point", ["leased", "verified"])
def test_a_clone_made_during_the_merge(fleet: Fleet, stores: Stores, tmp_path: Path, point: str) -> None:
    chain = build(tmp_path / "c", [LayerSpec(8 * MIB, writes=(("write", n * MIB, MIB, n + 1),)) for n in range(4)])
    refs = publish_chain(fleet, stores, chain, "d1")
    clone = Chain(chain.folder, chain.layers[:3])  # on a layer inside the run
    add_layer(clone, LayerSpec(8 * MIB, writes=(("write", 6 * MIB, MIB, 99),)))

    def fork(name: str) -> None:
        if name == point:
            upload_layer(stores, clone, clone.tip, "us-east")
            HeadStore(stores["us-east"]).create(Head("d2", clone.tip, "disk", "us-east", virtual_size=8 * MIB))

    receipt = apply_merge(fleet, merge_action(refs, "d1", "rebase", 0, 2), "t", checkpoint=fork)
    assert receipt.outcome == "published"
    assert disk_sha256(fleet, stores, "d1", tmp_path / "one") == guest_sha256(chain.path(chain.tip))
    assert disk_sha256(fleet, stores, "d2", tmp_path / "two") == guest_sha256(clone.path(clone.tip))


def test_a_tip_added_meanwhile_makes_the_merge_lose(fleet: Fleet, stores: Stores, tmp_path: Path) -> None:
    chain = build(tmp_path / "c", [LayerSpec(8 * MIB, writes=(("write", n * MIB, MIB, n + 1),)) for n in range(3)])
    refs = publish_chain(fleet, stores, chain, "d1")
    action = merge_action(refs, "d1", "rebase", 0, 1)
    add_layer(chain, LayerSpec(8 * MIB, writes=(("write", 5 * MIB, MIB, 42),)))
    upload_layer(stores, chain, chain.tip, "us-east")
    heads = HeadStore(stores["us-east"])
    heads.start("d1", "host-1")
    heads.stop("d1", chain.tip)
    receipt = apply_merge(fleet, action, "t")
    assert (receipt.outcome, receipt.reason.partition(":")[0]) == ("lost", "head_moved")
    assert disk_sha256(fleet, stores, "d1", tmp_path / "after") == guest_sha256(chain.path(chain.tip))
