"""Hazard 1: the top's parent is shorter than the top and the base: stream and commit expose old base data, rc 0."""

from pathlib import Path

import pytest

from tasks.settings import Fleet
from tests.support.chains import Chain, LayerSpec, build, check
from tests.support.hazard import MIB, OnAFleet, copy_of, stream_unprotected, tip_sha256
from tests.support.merges import Stores

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Base 16 MiB of data, parent 12 MiB, top 16 MiB: behind 12 MiB the guest reads zeros."""
    base = LayerSpec(16 * MIB, writes=(("write", 0, 16 * MIB, 0xAA),))
    return build(tmp_path / "chain", [base, LayerSpec(12 * MIB, writes=(("write", 0, MIB, 2),)), LayerSpec(16 * MIB)])


def test_block_stream_exposes_the_base(chain: Chain, tmp_path: Path) -> None:
    spoilt = copy_of(chain, tmp_path / "spoilt")
    stream_unprotected(spoilt, 2, f"{chain.layers[0]}.qcow2")
    assert check(spoilt.path(spoilt.tip))["check-errors"] == 0
    assert tip_sha256(spoilt) != tip_sha256(chain)


def test_chainwright_refuses_stream_and_the_others_are_right(
    chain: Chain, fleet: Fleet, stores: Stores, tmp_path: Path
) -> None:
    ours = OnAFleet(fleet, stores, chain, tmp_path)
    ours.refused("short_parent", "stream")
    ours.published("rebase", "compose")
