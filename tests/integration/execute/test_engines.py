"""Every engine, end to end on a real store."""

import random
from contextlib import suppress
from pathlib import Path

import pytest

from tasks.plan.steps import Engine
from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tests.support.chains import LayerSpec, build, check, guest_sha256, random_specs
from tests.support.merges import Stores, disk_sha256, download_chain, layer_keys, merge_action, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


ENGINES = ("rebase", "stream", "compose")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("top", "bottom"), [(0, 1), (0, 3), (1, 2), (2, 3)])
def test_run_is_merged_and_the_disk_stays_the_same(
    fleet: Fleet, stores: Stores, tmp_path: Path, engine: Engine, top: int, bottom: int
) -> None:
    chain = build(tmp_path / "chain", random_specs(random.Random(7), 6, LayerSpec(16 << 20), writes=8))
    before = guest_sha256(chain.path(chain.tip))
    refs = publish_chain(fleet, stores, chain, "d1", ["us-east", "eu-west", "ap-south"])
    receipt = apply_merge(fleet, merge_action(refs, "d1", engine, top, bottom), "t1")
    assert receipt.outcome == "published", receipt.reason
    assert receipt.proof is not None
    assert receipt.proof.sha256_before == receipt.proof.sha256_after
    after = download_chain(fleet, stores, "d1", tmp_path / "after")
    assert len(after.layers) == 6 - (bottom - top)
    assert guest_sha256(after.path(after.tip)) == before
    for layer in receipt.new_layers:
        assert check(after.path(layer))["check-errors"] == 0
    assert layer_keys(stores) == set(chain.layers) | set(receipt.new_layers)
    assert not list(Path(fleet.work_dir).glob("*.d"))
    assert not still_open(Path(fleet.work_dir))
    assert disk_sha256(fleet, stores, "d1", tmp_path / "again") == before


def still_open(folder: Path) -> list[str]:
    """Files that this process holds: removed or not, they take space until they are closed."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(str(descriptor.readlink()))
    return [link for link in links if link.startswith(str(folder))]


@pytest.mark.parametrize("engine", ["stream", "compose"])
def test_a_whole_chain_is_flattened(fleet: Fleet, stores: Stores, tmp_path: Path, engine: Engine) -> None:
    chain = build(tmp_path / "chain", random_specs(random.Random(9), 4, LayerSpec(16 << 20), writes=8))
    refs = publish_chain(fleet, stores, chain, "d1", ["us-east", "eu-west"])
    receipt = apply_merge(fleet, merge_action(refs, "d1", engine, 0, 3), "t1")
    assert receipt.outcome == "published", receipt.reason
    after = download_chain(fleet, stores, "d1", tmp_path / "after")
    assert len(after.layers) == 1
    assert guest_sha256(after.path(after.tip)) == guest_sha256(chain.path(chain.tip))


def test_rebase_refuses_to_flatten(fleet: Fleet, stores: Stores, tmp_path: Path) -> None:
    chain = build(tmp_path / "chain", random_specs(random.Random(9), 2, LayerSpec(1 << 20)))
    refs = publish_chain(fleet, stores, chain, "d1")
    receipt = apply_merge(fleet, merge_action(refs, "d1", "rebase", 0, 1), "t1")
    assert (receipt.outcome, receipt.reason.partition(":")[0]) == ("refused", "flatten")
    assert layer_keys(stores) == set(chain.layers)
