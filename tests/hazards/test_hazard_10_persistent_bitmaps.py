"""Hazard 10: bitmaps of a merged layer are lost with it, and incremental backups with them. Refused unless allowed."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.inventory.local import inspect_file
from tasks.settings import Fleet
from tests.support.chains import Chain, LayerSpec, build
from tests.support.hazard import MIB, OnAFleet, copy_of, stream_unprotected
from tests.support.merges import Stores, download_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    writes = [LayerSpec(8 * MIB, writes=(("write", n * MIB, 2 * MIB, n + 1),)) for n in range(3)]
    return build(tmp_path / "chain", [writes[0], replace(writes[1], bitmap="backup"), writes[2]])


def test_stream_loses_them(chain: Chain, tmp_path: Path) -> None:
    spoilt = copy_of(chain, tmp_path / "spoilt")
    assert inspect_file(spoilt.path(spoilt.layers[1])).facts.bitmaps == 1
    stream_unprotected(spoilt, 2, f"{chain.layers[0]}.qcow2")
    assert inspect_file(spoilt.path(spoilt.tip)).facts.bitmaps == 0


def test_chainwright_refuses_them(chain: Chain, fleet: Fleet, stores: Stores, tmp_path: Path) -> None:
    OnAFleet(fleet, stores, chain, tmp_path).refused("bitmaps_present", "rebase", "stream", "compose")


def test_chainwright_drops_them_where_policy_says_so(
    chain: Chain, fleet: Fleet, stores: Stores, tmp_path: Path
) -> None:
    allowing = fleet.model_copy(update={"policy": replace(fleet.policy, drop_bitmaps=True)})
    ours = OnAFleet(allowing, stores, chain, tmp_path)
    ours.published("rebase", "stream", "compose")
    for number in (1, 2, 3):
        after = download_chain(fleet, stores, f"d{number}", tmp_path / f"bitmaps-{number}")
        assert inspect_file(after.path(after.tip)).facts.bitmaps == 0


def test_a_base_keeps_its_bitmaps(fleet: Fleet, stores: Stores, tmp_path: Path) -> None:
    writes = [LayerSpec(8 * MIB, writes=(("write", n * MIB, 2 * MIB, n + 1),)) for n in range(3)]
    chain = build(tmp_path / "base", [replace(writes[0], bitmap="backup"), *writes[1:]])
    OnAFleet(fleet, stores, chain, tmp_path).published("rebase", "stream", "compose")
