"""Who wins when a VM starts, when an action runs twice, when a worker sleeps through its lease."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import clock
from tasks.execute.receipt import Receipt
from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tasks.store.heads import HeadStore
from tests.support.chains import Chain, LayerSpec, build, guest_sha256
from tests.support.merges import Stores, disk_sha256, layer_keys, merge_action, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]
MIB = 1 << 20


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    writes = [("write", 0, MIB, 1), ("write", MIB // 2, MIB, 2), ("write", MIB, MIB, 3), ("zero", 0, MIB // 4, 0)]
    specs = [LayerSpec(8 * MIB, writes=(layer,)) for layer in writes]  # type: ignore[arg-type]
    return build(tmp_path_factory.mktemp("race"), specs)


def at(point: str, what: Callable[[], object]) -> Callable[[str], None]:
    """A checkpoint that does something once, at one point."""
    done: list[str] = []

    def checkpoint(name: str) -> None:
        if name == point and not done:
            done.append(name)
            what()

    return checkpoint


@pytest.mark.parametrize("point", ["intent", "leased", "fetched", "proved", "uploaded", "verified"])
def test_a_start_during_maintenance_wins(
    fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path, point: str
) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")
    heads = HeadStore(stores["us-east"])
    action = merge_action(refs, "d1", "rebase", 0, 1)
    receipt = apply_merge(fleet, action, "t", checkpoint=at(point, lambda: heads.start("d1", "host-7")))
    assert receipt.outcome == "lost"
    assert "host-7" in receipt.reason
    head = heads.read("d1").head
    assert (head.state, head.tip, head.lease) == ("running", chain.tip, None)
    assert layer_keys(stores) == set(chain.layers)
    heads.stop("d1")
    assert disk_sha256(fleet, stores, "d1", tmp_path / "after") == guest_sha256(chain.path(chain.tip))


def test_a_start_after_the_publish_runs_on_the_new_tip(fleet: Fleet, stores: Stores, chain: Chain) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")
    heads = HeadStore(stores["us-east"])
    action = merge_action(refs, "d1", "rebase", 0, 1)
    receipt = apply_merge(fleet, action, "t", checkpoint=at("published", lambda: heads.start("d1", "host-7")))
    assert receipt.outcome == "published"
    head = heads.read("d1").head
    assert (head.state, head.tip) == ("running", receipt.new_tip)
    assert apply_merge(fleet, action, "t2").new_tip == receipt.new_tip
    assert layer_keys(stores) == set(chain.layers) | set(receipt.new_layers)


def test_a_running_disk_is_left_alone(fleet: Fleet, stores: Stores, chain: Chain) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")
    HeadStore(stores["us-east"]).start("d1", "host-7")
    receipt = apply_merge(fleet, merge_action(refs, "d1", "rebase", 0, 1), "t")
    assert (receipt.outcome, receipt.reason.partition(":")[0]) == ("lost", "disk_running")
    assert layer_keys(stores) == set(chain.layers)


@pytest.mark.parametrize("point", ["leased", "fetched", "uploaded", "verified"])
def test_two_runs_of_one_action_one_publishes(
    fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path, point: str
) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")
    action = merge_action(refs, "d1", "rebase", 0, 2)
    inner: list[Receipt] = []
    outer = apply_merge(
        fleet, action, "same", checkpoint=at(point, lambda: inner.append(apply_merge(fleet, action, "same")))
    )
    assert (inner[0].outcome, outer.outcome) == ("published", "superseded")
    _assert_published_once(fleet, stores, chain, tmp_path, inner[0])


def test_two_runs_at_once(fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")
    action = merge_action(refs, "d1", "rebase", 0, 2)
    barrier = threading.Barrier(2)
    results: list[Receipt] = []

    def work() -> None:
        results.append(apply_merge(fleet, action, "same", checkpoint=at("intent", lambda: barrier.wait(30))))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(str(receipt.outcome) for receipt in results) == ["published", "superseded"]
    winner = next(receipt for receipt in results if receipt.outcome == "published")
    _assert_published_once(fleet, stores, chain, tmp_path, winner)


def test_a_worker_that_slept_through_its_lease_loses(fleet: Fleet, stores: Stores, chain: Chain) -> None:
    safety = fleet.policy.safety
    from dataclasses import replace

    short = fleet.model_copy(update={"policy": replace(fleet.policy, safety=replace(safety, lease_seconds=1))})
    refs = publish_chain(fleet, stores, chain, "d1")
    heads = HeadStore(stores["us-east"])
    other = merge_action(refs, "d1", "rebase", 1, 2)
    theirs: list[Receipt] = []

    def sleep_and_be_overtaken() -> None:
        clock.sleep(2.5)
        theirs.append(apply_merge(fleet, other, "other"))

    action = merge_action(refs, "d1", "rebase", 0, 1)
    receipt = apply_merge(short, action, "sleeper", checkpoint=at("verified", sleep_and_be_overtaken))
    assert theirs[0].outcome == "published"
    assert receipt.outcome == "lost"
    assert heads.read("d1").head.tip == theirs[0].new_tip
    assert layer_keys(stores) == set(chain.layers) | set(theirs[0].new_layers)


def test_a_live_lease_of_another_action_is_respected(fleet: Fleet, stores: Stores, chain: Chain) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")
    HeadStore(stores["us-east"]).acquire_lease("d1", "other-action", "a1", 600)
    receipt = apply_merge(fleet, merge_action(refs, "d1", "rebase", 0, 1), "t")
    assert (receipt.outcome, receipt.reason.partition(":")[0]) == ("refused", "leased")
    assert layer_keys(stores) == set(chain.layers)


@pytest.mark.parametrize("point", ["leased", "fetched", "merged", "uploaded", "verified"])
def test_cancel_leaves_nothing_behind(fleet: Fleet, stores: Stores, chain: Chain, point: str) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")

    def cancel() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_merge(fleet, merge_action(refs, "d1", "rebase", 0, 1), "t", checkpoint=at(point, cancel))
    head = HeadStore(stores["us-east"]).read("d1").head
    assert (head.tip, head.lease) == (chain.tip, None)
    assert layer_keys(stores) == set(chain.layers)
    assert not list(Path(fleet.work_dir).glob("*.d"))
    assert not list(Path(fleet.work_dir).glob("*.reserve"))


def _assert_published_once(fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path, winner: Receipt) -> None:
    assert HeadStore(stores["us-east"]).read("d1").head.tip == winner.new_tip
    assert layer_keys(stores) == set(chain.layers) | set(winner.new_layers)
    assert disk_sha256(fleet, stores, "d1", tmp_path / "once") == guest_sha256(chain.path(chain.tip))
