"""Hazard 7: extended L2. A cluster may be partly allocated; stream without the base copies it whole, rc 0."""

import random
from pathlib import Path

import pytest

from tasks.settings import Fleet
from tests.support.chains import LayerSpec, build, random_specs
from tests.support.hazard import MIB, OnAFleet, copy_of, stream_unprotected, tip_sha256
from tests.support.merges import Stores

pytestmark = [pytest.mark.qemu, pytest.mark.s3]

BASE = LayerSpec(8 * MIB, writes=(("write", 0, 8 * MIB, 7),))
PARTLY = LayerSpec(8 * MIB, extended_l2=True, writes=(("write", 65536, 4096, 2), ("zero", 3 * MIB, 8192, 0)))


def test_stream_copies_what_the_parent_does_not_hold(tmp_path: Path) -> None:
    chain = build(tmp_path / "chain", [BASE, PARTLY, LayerSpec(8 * MIB)])
    spoilt = copy_of(chain, tmp_path / "spoilt")
    stream_unprotected(spoilt, 2, f"{chain.layers[0]}.qcow2")
    assert tip_sha256(spoilt) != tip_sha256(chain)


@pytest.mark.parametrize("where", ["parent", "top", "both"])
def test_chainwright_rebases_and_refuses_the_rest(fleet: Fleet, stores: Stores, tmp_path: Path, where: str) -> None:
    rng = random.Random(7)
    plain, extended = LayerSpec(8 * MIB), LayerSpec(8 * MIB, extended_l2=True)
    parent = random_specs(rng, 1, plain if where == "top" else extended)[0]
    top = random_specs(rng, 1, plain if where == "parent" else extended)[0]
    chain = build(tmp_path / "chain", [BASE, parent, top])
    ours = OnAFleet(fleet, stores, chain, tmp_path)
    ours.refused("extended_l2", "stream", "compose")
    ours.published("rebase")
