"""Hazard 4: commit grows its target; a merge must give the top's size and leave every other layer alone."""

from pathlib import Path

import pytest

from tasks.inventory.local import inspect_file
from tasks.settings import Fleet
from tests.support.chains import Chain, LayerSpec, build, tool
from tests.support.hazard import MIB, OnAFleet, copy_of
from tests.support.merges import Stores, download_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    sizes = (8, 12, 16)
    return build(tmp_path / "chain", [LayerSpec(n * MIB, writes=(("write", (n - 4) * MIB, MIB, n),)) for n in sizes])


def test_commit_resizes_its_target(chain: Chain, tmp_path: Path) -> None:
    spoilt = copy_of(chain, tmp_path / "spoilt")
    parent = spoilt.path(spoilt.layers[1])
    tool(["qemu-img", "commit", "-q", "-f", "qcow2", f"{chain.tip}.qcow2"], spoilt.folder)
    assert inspect_file(parent).facts.virtual_size == 16 * MIB


def test_chainwright_keeps_every_size(chain: Chain, fleet: Fleet, stores: Stores, tmp_path: Path) -> None:
    ours = OnAFleet(fleet, stores, chain, tmp_path)
    ours.published("rebase", "stream", "compose")
    for number in (1, 2, 3):
        after = download_chain(fleet, stores, f"d{number}", tmp_path / f"sizes-{number}")
        sizes = [inspect_file(after.path(layer)).facts.virtual_size for layer in after.layers]
        assert sizes == [8 * MIB, 16 * MIB]
        assert after.layers[0] == chain.layers[0]
