"""Hazard 5: a zero cluster is not an unallocated one: it hides what is below. Version 2 has none."""

from pathlib import Path

import pytest

from tasks.chain.layer import ExtentKind
from tasks.inventory.local import inspect_file
from tasks.settings import Fleet
from tests.support.chains import Chain, LayerSpec, build, tool
from tests.support.hazard import ENGINES, MIB, OnAFleet, copy_of, tip_sha256
from tests.support.merges import Stores, download_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    base = LayerSpec(8 * MIB, writes=(("write", 0, 8 * MIB, 7),))
    parent = LayerSpec(8 * MIB, writes=(("zero", 0, 2 * MIB, 0), ("discard", 4 * MIB, MIB, 0), ("write", MIB, MIB, 9)))
    return build(tmp_path / "chain", [base, parent, LayerSpec(8 * MIB, writes=(("write", 6 * MIB, MIB, 3),))])


def test_convert_without_the_base_loses_zeros(chain: Chain, tmp_path: Path) -> None:
    spoilt = copy_of(chain, tmp_path / "spoilt")
    base = f"{chain.layers[0]}.qcow2"
    blind = ["qemu-img", "rebase", "-u", "-f", "qcow2"]
    tool([*blind, "-b", "", f"{chain.layers[1]}.qcow2"], spoilt.folder)
    tool(["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", f"{chain.tip}.qcow2", "out.qcow2"], spoilt.folder)
    tool([*blind, "-F", "qcow2", "-b", base, "out.qcow2"], spoilt.folder)
    (spoilt.folder / "out.qcow2").replace(spoilt.path(spoilt.tip))
    assert tip_sha256(spoilt) != tip_sha256(chain)


def test_chainwright_keeps_zeros_as_zero_clusters(chain: Chain, fleet: Fleet, stores: Stores, tmp_path: Path) -> None:
    OnAFleet(fleet, stores, chain, tmp_path).published(*ENGINES)
    for number in (1, 2, 3):
        after = download_chain(fleet, stores, f"d{number}", tmp_path / f"zeros-{number}")
        extents = inspect_file(after.path(after.tip)).extents
        zeros = extents.guest_bytes(ExtentKind.ZERO, ExtentKind.ZERO_ALLOCATED)
        assert zeros == 2 * MIB  # 1 MiB written as zeros, 1 MiB discarded


def test_version_2_has_no_zero_clusters(fleet: Fleet, stores: Stores, tmp_path: Path) -> None:
    base = LayerSpec(8 * MIB, writes=(("write", 0, 8 * MIB, 7),))
    parent = LayerSpec(8 * MIB, version=2, writes=(("zero", 0, 2 * MIB, 0), ("write", 4 * MIB, MIB, 3)))
    chain = build(tmp_path / "v2", [base, parent, LayerSpec(8 * MIB, version=2)])
    ours = OnAFleet(fleet, stores, chain, tmp_path)
    ours.refused("v2", "stream")
    ours.published("rebase", "compose")
