"""Hazard 8: different cluster sizes. Stream without the base rounds a parent's small cluster up, rc 0."""

from pathlib import Path

import pytest

from tasks.settings import Fleet
from tests.support.chains import LayerSpec, build
from tests.support.hazard import MIB, OnAFleet, copy_of, stream_unprotected, tip_sha256
from tests.support.merges import Stores

pytestmark = [pytest.mark.qemu, pytest.mark.s3]

BASE = LayerSpec(8 * MIB, writes=(("write", 0, 8 * MIB, 7),))


def test_stream_of_small_clusters_into_large_ones(tmp_path: Path) -> None:
    parent = LayerSpec(8 * MIB, 4096, writes=(("write", 65536 + 4096, 4096, 2),))
    chain = build(tmp_path / "chain", [BASE, parent, LayerSpec(8 * MIB)])
    spoilt = copy_of(chain, tmp_path / "spoilt")
    stream_unprotected(spoilt, 2, f"{chain.layers[0]}.qcow2")
    assert tip_sha256(spoilt) != tip_sha256(chain)


@pytest.mark.parametrize(("parent_size", "top_size"), [(4096, 65536), (2 * MIB, 65536), (65536, 4096)])
def test_chainwright_rebases_and_refuses_the_rest(
    fleet: Fleet, stores: Stores, tmp_path: Path, parent_size: int, top_size: int
) -> None:
    parent = LayerSpec(8 * MIB, parent_size, writes=(("write", 69632, 4096, 2), ("zero", 3 * MIB, MIB, 0)))
    top = LayerSpec(8 * MIB, top_size, writes=(("write", 69632 + 512, 512, 3),))
    ours = OnAFleet(fleet, stores, build(tmp_path / "chain", [BASE, parent, top]), tmp_path)
    ours.refused("cluster_size_mix", "stream", "compose")
    ours.published("rebase")
