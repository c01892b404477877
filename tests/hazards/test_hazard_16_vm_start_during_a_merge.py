"""Hazard 16: file locks are per host. A VM that starts on another copy writes over a base that was merged under it."""

from pathlib import Path

import pytest

from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tasks.store.heads import HeadStore
from tests.support.chains import LayerSpec, build, tool, write
from tests.support.hazard import MIB, copy_of, tip_sha256
from tests.support.merges import Stores, layer_keys, merge_action, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


def test_a_commit_under_a_vm_on_another_host(tmp_path: Path) -> None:
    chain = build(tmp_path / "a", [LayerSpec(8 * MIB, writes=(("write", 0, MIB, n + 1),)) for n in range(3)])
    other_host = copy_of(chain, tmp_path / "b")  # the VM's copies: no lock of host a reaches them
    tool(["qemu-img", "commit", "-q", "-d", "-f", "qcow2", f"{chain.tip}.qcow2"], chain.folder)
    write(other_host.path(chain.tip), [("write", 4 * MIB, MIB, 9)])
    other_host.path(chain.tip).replace(chain.path(chain.tip))  # the VM's tip comes home, the base has changed
    assert tip_sha256(chain) == tip_sha256(chain)


@pytest.mark.parametrize("point", ["leased", "merged", "verified"])
def test_the_start_wins(fleet: Fleet, stores: Stores, tmp_path: Path, point: str) -> None:
    chain = build(tmp_path / "c", [LayerSpec(8 * MIB, writes=(("write", 0, MIB, n + 1),)) for n in range(3)])
    refs = publish_chain(fleet, stores, chain, "d1")
    heads = HeadStore(stores["us-east"])

    def start(name: str) -> None:
        if name == point:
            heads.start("d1", "host-2")

    receipt = apply_merge(fleet, merge_action(refs, "d1", "rebase", 0, 1), "t", checkpoint=start)
    assert receipt.outcome == "lost"
    assert heads.read("d1").head.tip == chain.tip
    assert layer_keys(stores) == set(chain.layers)
