"""What travels and what the store copies; other endpoints; full verification; wrong input."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.errors import NotFound, Permanent
from tasks.execute import runner
from tasks.execute.job import Job
from tasks.execute.receipt import Receipt
from tasks.execute.result import Result
from tasks.plan.steps import Engine
from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tests.support.chains import Chain, LayerSpec, build, guest_sha256
from tests.support.merges import Stores, disk_sha256, layer_keys, merge_action, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]
MIB = 1 << 20
ENGINES: tuple[Engine, ...] = ("rebase", "stream", "compose")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Base, a small parent, a large top, and a large layer above them."""
    writes = [("write", 0, 3 * MIB, 1), ("write", MIB, 2 * MIB, 2), ("write", 8 * MIB, 24 * MIB, 3)]
    writes.append(("write", 34 * MIB, 12 * MIB, 4))
    specs = [LayerSpec(48 * MIB, writes=(layer,)) for layer in writes]  # type: ignore[arg-type]
    return build(tmp_path_factory.mktemp("transfer"), specs)


def _merge(fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path, engine: Engine, top: int = 1) -> Receipt:
    refs = publish_chain(fleet, stores, chain, "d1", ["us-east", "eu-west"])
    receipt = apply_merge(fleet, merge_action(refs, "d1", engine, top, 2), "t")
    assert receipt.outcome == "published", receipt.reason
    assert disk_sha256(fleet, stores, "d1", tmp_path / "after") == guest_sha256(chain.path(chain.tip))
    return receipt


@pytest.mark.parametrize("engine", ENGINES)
def test_the_store_copies_what_did_not_change(
    fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path, engine: Engine
) -> None:
    receipt = _merge(fleet, stores, chain, tmp_path, engine)
    assert receipt.actual is not None
    copied = sum(receipt.actual.copy_bytes.values())
    sent = sum(receipt.actual.write_bytes.values())
    assert copied > 20 * MIB  # most of the 24 MiB top, and of the layer above
    assert sent < 20 * MIB
    assert set(receipt.actual.copy_bytes) == {"us-east", "eu-west"}


@pytest.mark.parametrize("engine", ENGINES)
def test_between_endpoints_nothing_is_copied(
    fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path, engine: Engine
) -> None:
    """The same server under another name is another endpoint: all it takes to forbid copies."""
    regions = tuple(
        region.model_copy(update={"endpoint": region.endpoint.replace("127.0.0.1", "localhost")})
        if region.name == "us-east"
        else region
        for region in fleet.regions
    )
    apart = fleet.model_copy(update={"regions": regions})
    receipt = _merge(apart, stores, chain, tmp_path, engine)
    assert receipt.actual is not None
    assert set(receipt.actual.copy_bytes) <= {"us-east"}
    assert receipt.actual.read_bytes["eu-west"] > 10 * MIB


@pytest.mark.parametrize("engine", ENGINES)
def test_full_verification(fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path, engine: Engine) -> None:
    policy = replace(fleet.policy, safety=replace(fleet.policy.safety, verify="full"))
    receipt = _merge(fleet.model_copy(update={"policy": policy}), stores, chain, tmp_path, engine)
    assert receipt.actual is not None
    assert sum(receipt.actual.read_bytes.values()) > 60 * MIB  # both views were read


def test_full_verification_finds_what_the_proof_of_parts_does_not(
    fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that the store copied from the wrong place, with nobody looking at its ends."""
    policy = replace(fleet.policy, safety=replace(fleet.policy.safety, verify="full"))
    monkeypatch.setattr(runner, "verify_copies", lambda *_: None)
    honest = runner.ENGINES["compose"]

    def shifted(job: Job) -> Result:
        result = honest(job)
        parts = [replace(p, start=p.start - 65536) if hasattr(p, "source") else p for p in result.parts]
        return replace(result, parts=parts)

    monkeypatch.setitem(runner.ENGINES, "compose", shifted)
    refs = publish_chain(fleet, stores, chain, "d1")
    action = merge_action(refs, "d1", "compose", 1, 2)
    with pytest.raises(Permanent, match="full verification"):
        apply_merge(fleet.model_copy(update={"policy": policy}), action, "t")
    assert layer_keys(stores) == set(chain.layers)


def test_copied_parts_are_compared_at_both_ends(
    fleet: Fleet, stores: Stores, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = runner.ENGINES["compose"]

    def told_another_place(job: Job) -> Result:
        result = honest(job)
        return replace(result, parts=[*result.parts[:-1], replace(result.parts[-1], start=0)])

    refs = publish_chain(fleet, stores, chain, "d1")
    sent = runner.upload

    def upload_the_right_ones(job: Job, layer_id: str, parts: object) -> object:
        return sent(job, layer_id, honest(replace(job, folder=_fresh(job.folder))).parts)

    monkeypatch.setitem(runner.ENGINES, "compose", told_another_place)
    monkeypatch.setattr(runner, "upload", upload_the_right_ones)
    with pytest.raises(Permanent, match="not the source's"):
        apply_merge(fleet, merge_action(refs, "d1", "compose", 1, 2), "t")
    assert layer_keys(stores) == set(chain.layers)


def _fresh(folder: Path) -> Path:
    again = folder / "again"
    again.mkdir()
    return again


def test_an_unknown_disk(fleet: Fleet, stores: Stores, chain: Chain) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")
    with pytest.raises(NotFound, match="no disk 'other'"):
        apply_merge(fleet, merge_action(refs, "other", "rebase", 0, 1), "t")


def test_a_region_that_the_fleet_does_not_have(fleet: Fleet, stores: Stores, chain: Chain) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")
    moved = [refs[0], replace(refs[1], region="mars"), *refs[2:]]
    receipt = apply_merge(fleet, merge_action(moved, "d1", "rebase", 0, 1), "t")
    assert (receipt.outcome, receipt.reason.partition(":")[0]) == ("refused", "unknown_region")


def test_no_space_in_the_work_directory(fleet: Fleet, stores: Stores, chain: Chain) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")
    action = merge_action(refs, "d1", "rebase", 0, 1, temp_bytes=1 << 50)
    with pytest.raises(Permanent, match=r"work directory .*: needs"):
        apply_merge(fleet, action, "t")
    assert layer_keys(stores) == set(chain.layers)
    again = apply_merge(fleet, replace(action, cost=replace(action.cost, temp_bytes=0)), "t")
    assert again.outcome == "published"


def test_an_object_that_was_replaced(fleet: Fleet, stores: Stores, chain: Chain) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")
    changed = [refs[0], replace(refs[1], etag='"0123"'), *refs[2:]]
    receipt = apply_merge(fleet, merge_action(changed, "d1", "stream", 0, 1), "t")
    assert (receipt.outcome, receipt.reason.partition(":")[0]) == ("refused", "stale_layer")
    assert layer_keys(stores) == set(chain.layers)
