"""Hazard 16: file locks are per host. A VM that starts on another copy writes over a base that was merged under it."""

import subprocess
from pathlib import Path

import pytest

from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tasks.store.heads import HeadStore
from tests.support.chains import LayerSpec, build, tool
from tests.support.hazard import MIB, copy_of
from tests.support.merges import Stores, layer_keys, merge_action, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


def test_locks_end_at_the_host(tmp_path: Path) -> None:
    """QEMU refuses to touch an image that is open here, and gladly merges a copy of it: its disk runs elsewhere."""
    chain = build(tmp_path / "a", [LayerSpec(8 * MIB, writes=(("write", 0, MIB, n + 1),)) for n in range(3)])
    elsewhere = copy_of(chain, tmp_path / "b")
    base, tip = f"{chain.layers[0]}.qcow2", f"{chain.tip}.qcow2"
    rebase = ["qemu-img", "rebase", "-f", "qcow2", "-F", "qcow2", "-b", base, tip]
    vm_argv = ["stdbuf", "-oL", "qemu-io", "-f", "qcow2", "-c", "read 0 512", "-c", "sleep 600000", tip]
    with subprocess.Popen(vm_argv, cwd=chain.folder, stdout=subprocess.PIPE) as vm:
        try:
            assert vm.stdout is not None
            assert b"read 512" in vm.stdout.readline()  # it has the image open, and locked
            refused = subprocess.run(rebase, cwd=chain.folder, capture_output=True, text=True, check=False)
            assert refused.returncode != 0
            assert "lock" in refused.stderr
            tool(rebase, elsewhere.folder)
        finally:
            vm.kill()


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
