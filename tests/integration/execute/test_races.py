"""Who wins when a VM starts, when an action runs twice, when a worker sleeps through its lease."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tasks import clock
from tasks.chain.header_rewrite import rewrite_backing
from tasks.chain.layer import layer_file_name
from tasks.errors import PreconditionFailed
from tasks.execute.receipt import Receipt
from tasks.qemu.img import create_overlay
from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tasks.stages.retire import undo
from tasks.store import keys
from tasks.store.base import ObjectStore
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


class Interrupted:
    """The control store of a worker that is interrupted inside its publish, while the request is on its way.

    `arrives`: before the worker cleans up, meanwhile, after it, or never.
    """

    def __init__(self, inner: ObjectStore, arrives: str) -> None:
        self._inner, self._arrives = inner, arrives
        self.pending: list[Callable[[], object]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        before = json.loads(self._inner.get(key)[0])
        if not key.startswith(keys.HEADS) or json.loads(body)["tip"] == before["tip"]:
            return self._inner.put_if_match(key, body, etag)
        self.pending.append(lambda: self._inner.put_if_match(key, body, etag))
        if self._arrives == "at once":
            self.pending.pop()()
        raise KeyboardInterrupt

    def delete(self, key: str, if_match: str | None = None) -> None:
        if self._arrives == "while it cleans up":
            self.arrive()
        self._inner.delete(key, if_match)

    def arrive(self) -> None:
        for send in self.pending:
            with suppress(PreconditionFailed):
                send()


@pytest.mark.parametrize("arrives", ["at once", "while it cleans up", "late", "never"])
def test_interrupted_while_the_publish_is_on_its_way(
    fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path, arrives: str
) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")
    action = merge_action(refs, "d1", "rebase", 0, 2)
    control = Interrupted(stores["us-east"], arrives)
    with pytest.raises(KeyboardInterrupt):
        apply_merge(fleet, action, "t", stores={**stores, "us-east": control})  # type: ignore[dict-item]
    if arrives == "late":
        control.arrive()
    assert disk_sha256(fleet, stores, "d1", tmp_path / "after") == guest_sha256(chain.path(chain.tip))
    head = HeadStore(stores["us-east"]).read("d1").head
    assert head.lease is None
    if arrives == "at once":
        assert head.tip != chain.tip
        assert undo(fleet, "d1")["tip"] == chain.tip  # the receipt says that it was published
    else:
        assert head.tip == chain.tip
        assert layer_keys(stores) == set(chain.layers)


def test_interrupted_publish_with_a_vm_started_and_stopped_on_it(
    fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path
) -> None:
    """The head names a child of the result by the time the worker cleans up: the result is below it."""
    refs = publish_chain(fleet, stores, chain, "d1")
    child = build_child(tmp_path / "child", chain)

    class Busy(Interrupted):
        def put_if_match(self, key: str, body: bytes, etag: str) -> str:
            try:
                return super().put_if_match(key, body, etag)
            except KeyboardInterrupt:
                self._vm(json.loads(body)["tip"])
                raise

        def _vm(self, tip: str) -> None:
            heads = HeadStore(stores["us-east"])
            heads.start("d1", "host-7")
            rewrite(child, tip)
            stores["us-east"].upload_file(keys.layer("c" * 32), child)
            heads.stop("d1", "c" * 32)

    control = Busy(stores["us-east"], "at once")
    with pytest.raises(KeyboardInterrupt):
        apply_merge(fleet, merge_action(refs, "d1", "rebase", 0, 2), "t", stores={**stores, "us-east": control})  # type: ignore[dict-item]
    assert disk_sha256(fleet, stores, "d1", tmp_path / "after") == guest_sha256(chain.path(chain.tip))


def build_child(path: Path, chain: Chain) -> Path:
    """An empty overlay of the chain's size; whom it rests on is written later."""
    create_overlay(path, 8 * MIB, layer_file_name(chain.tip), 64 << 10)
    return path


def rewrite(path: Path, parent: str) -> None:
    body = path.read_bytes()
    cluster = 64 << 10
    path.write_bytes(rewrite_backing(body[:cluster], layer_file_name(parent), "qcow2") + body[cluster:])


def _assert_published_once(fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path, winner: Receipt) -> None:
    assert HeadStore(stores["us-east"]).read("d1").head.tip == winner.new_tip
    assert layer_keys(stores) == set(chain.layers) | set(winner.new_layers)
    assert disk_sha256(fleet, stores, "d1", tmp_path / "once") == guest_sha256(chain.path(chain.tip))
