"""Retirement and undo against each other and against starts and clones, one named race each."""

import dataclasses
from dataclasses import replace
from typing import Any

import pytest

from tasks.errors import NotFound, Permanent, PreconditionFailed, Refused, Transient
from tasks.execute import pins
from tasks.execute.journal import Journal, ready_facts
from tasks.execute.receipt import Proof, Receipt
from tasks.execute.retire import FleetView, Retirement
from tasks.execute.undo import undo
from tasks.plan.steps import Cost
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.heads import HeadVersion
from tasks.store.tombstones import Tombstones
from tests.fakes.store import Fault, FaultyStore
from tests.support.toyfleet import ToyFleet

HOUR = 3600.0


@pytest.fixture
def merged() -> ToyFleet:
    """Disk `d` had base <- old1 <- old2 and was merged to base <- new."""
    fleet = ToyFleet()
    base = fleet.put_layer("us-east", None, {"1": 1})
    old1 = fleet.put_layer("eu-west", base, {"2": 2})
    old2 = fleet.put_layer("eu-west", old1, {"3": 3})
    fleet.create("d", "us-east", old2)
    merge(fleet, "d")
    return fleet


def merge(fleet: ToyFleet, disk: str, *, publish: bool = True) -> tuple[HeadVersion, str]:
    """All of a merge; without `publish` it stops where the next step would swing the head."""
    action = fleet.action(disk, 0, 1)
    journal = Journal(fleet.control, action, "attempt")
    result = fleet.new_id()
    journal.begin((("us-east", keys.layer(result)),))
    held = fleet.heads.acquire_lease(disk, action.action_id, "attempt", HOUR, tip=action.tip)
    blocks: dict[str, int] = {}
    for ref in reversed(action.run):
        blocks |= fleet.locate(ref.layer_id)[1]["blocks"]  # type: ignore[index,operator]
    fleet.put_layer("us-east", action.base.layer_id if action.base else None, blocks, result)
    journal.ready(ready_facts(result, [result], (3, 2), Proof("clean", 0, 0, "", "", ""), Cost(), new_bytes=0))
    if publish:
        held = fleet.heads.publish(held, result)
        journal.publish("attempt", {})
    return held, result


def layers(fleet: ToyFleet) -> int:
    return sum(key.startswith(keys.LAYERS) for store in fleet.stores.values() for key in store.objects)


def pass_grace(fleet: ToyFleet) -> None:
    """Time to be marked, and time to be due."""
    fleet.advance(73 * HOUR)
    assert len(fleet.retirement("mark").run(dry_run=False).marked) == 2
    fleet.advance(73 * HOUR)


def between(fleet: ToyFleet, action: Any, *, after_listing: bool = True) -> Retirement:
    """A run in which `action` happens between the claims and the second look's heads."""
    calls: list[int] = []

    def look() -> FleetView:
        calls.append(1)
        if len(calls) == 2 and not after_listing:
            action()
        view = fleet.look()
        if len(calls) == 2 and after_listing:
            action()
        return view

    run = fleet.retirement("sweep")
    return dataclasses.replace(run, look=look)


def test_replaced_layers_go_after_the_grace_and_not_before(merged: ToyFleet) -> None:
    pass_grace(merged)
    report = merged.retirement().run(dry_run=False)
    assert len(report.swept) == 2
    assert report.freed_bytes.keys() == {"eu-west"}
    assert merged.read(merged.heads.read("d").head.tip) == {"1": 1, "2": 2, "3": 3}


def test_names_of_deleted_layers_stay_taken_for_a_grace(merged: ToyFleet) -> None:
    """A delete request that is still on its way must not meet a new object of that name (import derives ids)."""
    pass_grace(merged)
    swept = merged.retirement("sweep").run(dry_run=False).swept
    merged.look()  # the inventory of the hour
    merged.advance(71 * HOUR)
    merged.retirement("early").run(dry_run=False)
    assert sorted(Tombstones(merged.control).listing()) == sorted(swept)
    merged.advance(2 * HOUR)
    merged.retirement("later").run(dry_run=False)
    assert Tombstones(merged.control).listing() == {}


def test_a_run_that_paused_before_its_claim_cannot_cut_a_new_grace(merged: ToyFleet) -> None:
    """While it slept its layers were saved (undo), replaced again, and marked again: their grace has just begun."""
    pass_grace(merged)
    held: list[object] = []

    class Pausing(Retirement):
        def _sweep(self, due: Any) -> Any:
            held.extend(due)
            undo(merged.control, dict(merged.stores), "d", "u")  # type: ignore[arg-type]
            merged.retirement("drops").run(dry_run=False)  # reachable again: tombstones go
            merge(merged, "d")
            assert len(merged.retirement("marks").run(dry_run=False).marked) >= 2
            return super()._sweep(due)

    run = merged.retirement("sleeper")
    report = Pausing(run.stores, run.control, run.look, run.safety, run.run_id).run(dry_run=False)
    assert len(held) == 2
    assert report.swept == ()
    undo(merged.control, dict(merged.stores), "d", "again")  # type: ignore[arg-type]
    assert merged.read(merged.heads.read("d").head.tip) == {"1": 1, "2": 2, "3": 3}


def test_a_slow_run_does_not_drop_a_fresh_claim(merged: ToyFleet) -> None:
    """It judged while a stale action still pinned the layers; by now another run has claimed them."""
    pass_grace(merged)
    victims = sorted(Tombstones(merged.control).listing())
    action = merged.action("d", 0, 0)
    stale = replace(action, action_id="stale", below=tuple(merged.ref(victim) for victim in victims))
    Journal(merged.control, stale, "a").begin(())

    class Slow(Retirement):
        def _write_tombstones(self, view: Any, verdicts: Any, seen: Any) -> None:
            assert len(verdicts.save) == 2
            for victim in victims:
                assert Tombstones(merged.control).claim(victim, seen[victim].etag, "other") is not None
            super()._write_tombstones(view, verdicts, seen)

    run = merged.retirement("slow")
    Slow(run.stores, run.control, run.look, run.safety, run.run_id).run(dry_run=False)
    with pytest.raises(Refused, match="being_deleted"):
        undo(merged.control, dict(merged.stores), "d", "u")  # type: ignore[arg-type]


def test_dry_run_writes_nothing(merged: ToyFleet) -> None:
    pass_grace(merged)
    before = {region: dict(store.objects) for region, store in merged.stores.items()}
    assert len(merged.retirement().run(dry_run=True).swept) == 2
    assert {region: dict(store.objects) for region, store in merged.stores.items()} == before


def test_two_schedulers_running_retire_at_once(merged: ToyFleet) -> None:
    pass_grace(merged)
    other: list[int] = []
    run = between(merged, lambda: other.append(len(merged.retirement("two").run(dry_run=False).swept)))
    assert len(run.run(dry_run=False).swept) == 2
    assert other == [0]  # the claims of the first one started the clocks anew
    assert layers(merged) == 2
    assert merged.read(merged.heads.read("d").head.tip) == {"1": 1, "2": 2, "3": 3}


@pytest.mark.parametrize("after_listing", [True, False])
def test_clone_created_between_mark_and_sweep(merged: ToyFleet, after_listing: bool) -> None:
    pass_grace(merged)
    old_tip = merged.action("d", 0, 0)  # the head's chain now; the clone goes to what was replaced
    replaced = sorted(Tombstones(merged.control).listing())
    child = next(i for i in replaced if merged.locate(i)[1]["backing"] in replaced)  # type: ignore[index]
    assert child != old_tip.tip
    run = between(merged, lambda: merged.create("clone", "eu-west", child), after_listing=after_listing)
    report = run.run(dry_run=False)
    assert report.swept == ()
    assert sorted(report.kept_anew) == replaced
    assert merged.read(child) == {"1": 1, "2": 2, "3": 3}


def test_undo_during_the_sweep_is_told_that_it_is_too_late(merged: ToyFleet) -> None:
    pass_grace(merged)
    tip = merged.heads.read("d").head.tip

    def attempt() -> None:
        with pytest.raises(Refused, match="being_deleted"):
            undo(merged.control, dict(merged.stores), "d", "u")  # type: ignore[arg-type]

    assert len(between(merged, attempt).run(dry_run=False).swept) == 2
    assert merged.heads.read("d").head.tip == tip
    assert merged.heads.read("d").head.lease is None


def test_undo_before_the_claim_wins(merged: ToyFleet) -> None:
    pass_grace(merged)
    before = merged.heads.read("d").head.tip
    undo(merged.control, dict(merged.stores), "d", "u")  # type: ignore[arg-type]
    report = merged.retirement().run(dry_run=False)
    head = merged.heads.read("d").head
    assert head.tip != before
    assert report.swept == ()
    assert merged.read(head.tip) == {"1": 1, "2": 2, "3": 3}


def test_undo_that_pauses_past_its_lease_and_the_grace_fails_its_swing(merged: ToyFleet) -> None:
    held = merged.heads.acquire_lease("d", "undo-u", "u-lease", 600, tip=merged.heads.read("d").head.tip)
    for _ in range(3):
        merged.advance(80 * HOUR)
        merged.retirement().run(dry_run=False)
    # its dead lease was taken away: its write fails, it does not point the head at what is gone
    with pytest.raises(PreconditionFailed):
        merged.heads.swap(held, "u", tip=held.head.tip)


def test_merge_that_pauses_past_its_lease_and_the_grace_fails_its_publish() -> None:
    fleet = ToyFleet()
    base = fleet.put_layer("us-east", None, {"1": 1})
    fleet.create("d", "us-east", fleet.put_layer("eu-west", base, {"2": 2}))
    held, result = merge(fleet, "d", publish=False)
    for _ in range(4):
        fleet.advance(73 * HOUR)
        fleet.retirement().run(dry_run=False)
    assert fleet.locate(result) is None  # an orphan of a dead attempt, gone after the grace
    with pytest.raises(PreconditionFailed):
        fleet.heads.publish(held, result)
    assert fleet.read(fleet.heads.read("d").head.tip) == {"1": 1, "2": 2}


def test_vm_started_on_an_old_head_seconds_before_the_sweep(merged: ToyFleet) -> None:
    pass_grace(merged)
    undo(merged.control, dict(merged.stores), "d", "u")  # type: ignore[arg-type]
    merged.heads.start("d", "host")
    assert merged.retirement().run(dry_run=False).swept == ()
    assert merged.read(merged.heads.read("d").head.tip) == {"1": 1, "2": 2, "3": 3}


def test_heads_prefix_empty_by_mistake(merged: ToyFleet) -> None:
    pass_grace(merged)
    stored = merged.control.objects.pop(keys.head("d"))
    report = merged.retirement().run(dry_run=False)
    assert report.stopped.startswith("no_heads")
    assert layers(merged) == 4
    merged.control.objects[keys.head("d")] = stored


def test_heads_vanish_between_the_two_looks(merged: ToyFleet) -> None:
    pass_grace(merged)
    run = between(merged, lambda: merged.control.objects.pop(keys.head("d")))
    with pytest.raises(Refused, match="no_heads"):
        run.run(dry_run=False)
    assert layers(merged) == 4


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_listing_that_fails_on_a_page_deletes_nothing(merged: ToyFleet, nth: int) -> None:
    pass_grace(merged)
    for name in ("x", "y"):
        merged.heads.clone("d", name)
    control = FaultyStore(merged.control, Fault("list", "page", nth=nth, times=9))
    run = merged.retirement()
    with pytest.raises(Transient):
        dataclasses.replace(run, stores={**run.stores, "us-east": control}, control=control).run(dry_run=False)  # type: ignore[dict-item,arg-type]
    assert layers(merged) == 4


def test_unreadable_journal_deletes_nothing(merged: ToyFleet) -> None:
    pass_grace(merged)
    merged.control.put_new(keys.action("broken"), b"{")
    with pytest.raises(Permanent, match=r"actions/broken\.json"):
        merged.retirement().run(dry_run=False)
    assert layers(merged) == 4


def test_layer_that_was_replaced_by_another_object_is_left_alone(merged: ToyFleet) -> None:
    pass_grace(merged)
    victim = sorted(Tombstones(merged.control).listing())[0]
    store = merged.stores["eu-west"]

    def overwrite() -> None:
        body = store.objects.pop(keys.layer(victim)).body
        store.put_new(keys.layer(victim), body + b" ")

    report = between(merged, overwrite).run(dry_run=False)
    assert victim in report.changed
    assert store.info(keys.layer(victim))


def test_abandoned_upload_is_aborted_after_the_grace(merged: ToyFleet) -> None:
    store = merged.stores["eu-west"]
    store.create_multipart(keys.layer("f" * 32))
    assert merged.retirement().run(dry_run=False).aborted_uploads == ()
    merged.advance(73 * HOUR)
    assert merged.retirement().run(dry_run=False).aborted_uploads == (f"eu-west/{keys.layer('f' * 32)}",)
    assert store.uploads == {}


def test_crash_after_a_deletion_leaves_a_tombstone_that_the_next_run_drops(merged: ToyFleet) -> None:
    pass_grace(merged)
    victim = sorted(Tombstones(merged.control).listing())[0]
    stones = Tombstones(merged.control)
    assert stones.claim(victim, stones.listing()[victim].etag, "dead") is not None
    merged.stores["eu-west"].delete(keys.layer(victim))
    merged.look()  # the inventory of the hour: else the shrunken listing stops the run
    merged.advance(73 * HOUR)
    merged.retirement().run(dry_run=False)
    assert victim not in stones.listing()


@pytest.mark.parametrize(("prepare", "code"), [("nothing", "nothing_to_undo"), ("stop", "head_moved")])
def test_undo_refuses_what_it_cannot_know(merged: ToyFleet, prepare: str, code: str) -> None:
    if prepare == "nothing":
        merged.create("e", "us-east", merged.put_layer("us-east", None, {}))
    else:
        merged.heads.clone("d", "other")
        merged.heads.start("d", "host")
        merged.heads.stop("d", merged.put_layer("us-east", merged.heads.read("d").head.tip, {"9": 9}))
    with pytest.raises(Refused, match=code):
        undo(merged.control, dict(merged.stores), "e" if prepare == "nothing" else "d", "u")  # type: ignore[arg-type]


def test_undo_of_a_running_disk_is_refused_and_of_an_unknown_one_not_found(merged: ToyFleet) -> None:
    merged.heads.start("d", "host")
    with pytest.raises(Refused, match="disk_running"):
        undo(merged.control, dict(merged.stores), "d", "u")  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="'nobody'"):
        undo(merged.control, dict(merged.stores), "nobody", "u")  # type: ignore[arg-type]


def test_undo_after_the_layers_went_is_refused(merged: ToyFleet) -> None:
    pass_grace(merged)
    merged.retirement().run(dry_run=False)
    with pytest.raises(Refused, match="undo_too_late"):
        undo(merged.control, dict(merged.stores), "d", "u")  # type: ignore[arg-type]
    assert merged.heads.read("d").head.lease is None


def test_undo_twice_with_one_attempt_is_a_no_op(merged: ToyFleet) -> None:
    first = undo(merged.control, dict(merged.stores), "d", "u")  # type: ignore[arg-type]
    assert undo(merged.control, dict(merged.stores), "d", "u") == first  # type: ignore[arg-type]


def listing_without(fleet: ToyFleet, layer_id: str) -> Retirement:
    """A run whose listings leave one object out: a store's broken index, a region that fleet.toml has lost."""

    def look() -> FleetView:
        region, key = fleet.locate(layer_id)[0], keys.layer(layer_id)  # type: ignore[index]
        hidden = fleet.stores[region].objects.pop(key)
        try:
            return fleet.look()
        finally:
            fleet.stores[region].objects[key] = hidden

    return dataclasses.replace(fleet.retirement(), look=look)


@pytest.fixture
def grown(merged: ToyFleet) -> ToyFleet:
    """The disk went on after its merge."""
    merged.heads.start("d", "host")
    merged.heads.stop("d", merged.put_layer("eu-west", merged.heads.read("d").head.tip, {"9": 9}))
    return merged


@pytest.mark.parametrize("depth", [0, 1])
def test_chain_below_a_layer_that_a_listing_leaves_out_is_kept(grown: ToyFleet, depth: int) -> None:
    tip = grown.heads.read("d").head.tip
    before = grown.read(tip)
    hidden = grown.chain(tip)[depth]
    for _ in range(4):  # marked, due, deleted: if anything were
        grown.advance(73 * HOUR)
        listing_without(grown, hidden).run(dry_run=False)
    assert grown.read(tip) == before


def test_chain_below_a_tip_that_nobody_has_deletes_nothing(grown: ToyFleet) -> None:
    tip = grown.heads.read("d").head.tip
    kept = grown.stores["eu-west"].objects.pop(keys.layer(tip))
    grown.advance(73 * HOUR)
    with pytest.raises(Refused, match=f"chain_unknown: layer {tip}"):
        grown.retirement().run(dry_run=False)
    assert Tombstones(grown.control).listing() == {}
    grown.stores["eu-west"].objects[keys.layer(tip)] = kept
    assert grown.retirement().run(dry_run=False).marked != ()


def test_a_second_look_that_is_suddenly_small_deletes_nothing(merged: ToyFleet) -> None:
    pass_grace(merged)
    for name in "wxyz":
        merged.create(name, "us-east", merged.put_layer("us-east", None, {}))
    merged.look()

    def lose() -> None:
        for name in "wxyz":
            merged.stores["us-east"].delete(keys.layer(merged.heads.read(name).head.tip))
            merged.control.objects.pop(keys.head(name))

    with pytest.raises(Refused, match="shrank"):
        between(merged, lose, after_listing=False).run(dry_run=False)
    assert layers(merged) == 4


def test_journals_are_read_once_a_run(merged: ToyFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of up to twelve looks read every journal of three days again, one after the other."""
    pass_grace(merged)
    merged.create("e", "us-east", merged.put_layer("us-east", merged.put_layer("us-east", None, {}), {}))
    merge(merged, "e", publish=False)
    merged.look()
    real, reads = pins.load_receipt, []

    def counted(control: ObjectStore, action_id: str) -> tuple[Receipt, str]:
        reads.append(action_id)
        return real(control, action_id)

    monkeypatch.setattr(pins, "load_receipt", counted)
    assert len(merged.retirement("sweep").run(dry_run=False).swept) == 2
    assert len(reads) == 1
