"""Hazard 18: a layer with other children. Commit into it changes their disks; a merge makes a layer for one child."""

from pathlib import Path

import pytest

from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tests.support.chains import Chain, LayerSpec, add_layer, build, guest_sha256, tool
from tests.support.hazard import ENGINES, MIB, copy_of
from tests.support.merges import Stores, disk_sha256, merge_action, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Chain, Chain]:
    """Two tips on one parent."""
    one = build(tmp_path / "c", [LayerSpec(8 * MIB, writes=(("write", 0, 2 * MIB, n + 1),)) for n in range(2)])
    two = Chain(one.folder, list(one.layers))
    add_layer(one, LayerSpec(8 * MIB, writes=(("write", MIB, MIB, 11),)))
    add_layer(two, LayerSpec(8 * MIB, writes=(("write", 4 * MIB, MIB, 12),)))
    return one, two


def test_commit_changes_the_other_disk(twins: tuple[Chain, Chain], tmp_path: Path) -> None:
    spoilt = copy_of(twins[0], tmp_path / "spoilt")
    tool(["qemu-img", "commit", "-q", "-f", "qcow2", f"{twins[0].tip}.qcow2"], spoilt.folder)
    assert guest_sha256(spoilt.path(twins[1].tip)) != guest_sha256(twins[1].path(twins[1].tip))


def test_chainwright_leaves_the_other_disk_alone(
    twins: tuple[Chain, Chain], fleet: Fleet, stores: Stores, tmp_path: Path
) -> None:
    expected = [guest_sha256(chain.path(chain.tip)) for chain in twins]
    for engine in ENGINES:
        refs = publish_chain(fleet, stores, twins[0], f"one-{engine}")
        publish_chain(fleet, stores, twins[1], f"two-{engine}")
        assert apply_merge(fleet, merge_action(refs, f"one-{engine}", engine, 0, 1), "t").outcome == "published"
        found = [disk_sha256(fleet, stores, f"{name}-{engine}", tmp_path / name) for name in ("one", "two")]
        assert found == expected
