"""The head protocol against a scripted store: lost answers, races at every write, incomplete listings."""

import dataclasses
from collections.abc import Callable

import pytest

from tasks import clock
from tasks.chain.head import TRAIL_LENGTH, Head
from tasks.errors import ConfigError, NotFound, OutcomeUnknown, Permanent, PreconditionFailed, Refused, Transient
from tasks.store.heads import HeadStore, HeadVersion, new_attempt_id, render_head
from tests.fakes.store import Fault, FaultyStore, MemoryStore

OLD, NEW, OTHER = "0" * 32, "1" * 32, "2" * 32


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "sleep", lambda seconds: None)


@pytest.fixture
def memory() -> MemoryStore:
    store = MemoryStore()
    HeadStore(store).create(Head("vm", OLD, "disk", "us-east"))
    return store


def faulty(memory: MemoryStore, *faults: Fault) -> HeadStore:
    return HeadStore(FaultyStore(memory, *faults))


def lease(heads: HeadStore, action: str = "act", attempt: str = "a1") -> HeadVersion:
    return heads.acquire_lease("vm", action, attempt, 60)


@pytest.mark.parametrize("how", ["lost", "not_applied"])
@pytest.mark.parametrize("times", [1, 2, 4])
def test_publish_survives_lost_and_failed_writes(memory: MemoryStore, how: str, times: int) -> None:
    held = lease(HeadStore(memory))
    done = faulty(memory, Fault("put_if_match", how, times=times)).publish(held, NEW)
    assert HeadStore(memory).read("vm") == done
    assert (done.head.tip, done.head.action_id, done.head.lease, done.head.generation) == (NEW, "act", None, 3)


def test_publish_never_applied_is_unknown_and_changes_nothing(memory: MemoryStore) -> None:
    held = lease(HeadStore(memory))
    with pytest.raises(OutcomeUnknown):
        faulty(memory, Fault("put_if_match", "not_applied", times=99)).publish(held, NEW)
    assert HeadStore(memory).read("vm") == held


def test_publish_with_lost_answer_and_unreadable_head_is_unknown(memory: MemoryStore) -> None:
    held = lease(HeadStore(memory))
    heads = faulty(memory, Fault("put_if_match", "lost"), Fault("get", "not_applied", times=99))
    with pytest.raises(OutcomeUnknown, match="written or not"):
        heads.publish(held, NEW)


def test_publish_with_lost_answer_below_a_vm_start_counts_as_done(memory: MemoryStore) -> None:
    """The trap: another record is there, yet ours was applied and a VM runs on our layer."""
    held = lease(HeadStore(memory))
    start = lambda: HeadStore(memory).start("vm", "host-1")  # noqa: E731
    done = faulty(memory, Fault("put_if_match", "after", action=start)).publish(held, NEW)
    assert done.head.tip == NEW
    now = HeadStore(memory).read("vm").head
    assert (now.tip, now.state) == (NEW, "running")
    with pytest.raises(PreconditionFailed):  # what came back cannot be written over
        HeadStore(memory).swap(done, new_attempt_id(), tip=OTHER)


def test_publish_under_too_many_later_writes_is_unknown(memory: MemoryStore) -> None:
    held = lease(HeadStore(memory))

    def busy() -> None:
        for _ in range(TRAIL_LENGTH // 2 + 1):
            HeadStore(memory).start("vm", "host-1")
            HeadStore(memory).stop("vm")

    with pytest.raises(OutcomeUnknown, match="too many"):
        faulty(memory, Fault("put_if_match", "after", action=busy)).publish(held, NEW)


def test_start_before_publish_wins(memory: MemoryStore) -> None:
    held = lease(HeadStore(memory))
    start = lambda: HeadStore(memory).start("vm", "host-1")  # noqa: E731
    with pytest.raises(PreconditionFailed):
        faulty(memory, Fault("put_if_match", "before", action=start)).publish(held, NEW)
    now = HeadStore(memory).read("vm").head
    assert (now.tip, now.state, now.lease) == (OLD, "running", None)


def test_start_after_publish_runs_on_the_new_tip(memory: MemoryStore) -> None:
    HeadStore(memory).publish(lease(HeadStore(memory)), NEW)
    assert HeadStore(memory).start("vm", "host-1").head.tip == NEW


@pytest.mark.parametrize("losses", [1, 5])
def test_start_wins_over_maintenance_that_writes_first(memory: MemoryStore, losses: int) -> None:
    attempts = iter(range(1000))
    leases = lambda: lease(HeadStore(memory), "act", f"a{next(attempts)}")  # noqa: E731
    started = faulty(memory, Fault("put_if_match", "before", times=losses, action=leases)).start("vm", "host-1")
    assert (started.head.state, started.head.lease, started.head.host) == ("running", None, "host-1")


def test_start_twice_is_refused_but_a_retry_is_not(memory: MemoryStore) -> None:
    heads = HeadStore(memory)
    first = heads.start("vm", "host-1", "unix:/run/q", attempt_id="try")
    assert heads.start("vm", "host-1", "unix:/run/q", attempt_id="try") == first
    with pytest.raises(Refused) as refused:
        heads.start("vm", "host-2")
    assert refused.value.reason == "disk_running"


def test_stop_swings_to_the_uploaded_tip_once(memory: MemoryStore) -> None:
    heads = HeadStore(memory)
    heads.start("vm", "host-1", "unix:/run/q")
    stopped = heads.stop("vm", tip=NEW, virtual_size=1 << 20, attempt_id="try")
    assert (stopped.head.tip, stopped.head.state, stopped.head.host, stopped.head.qmp) == (NEW, "idle", None, None)
    assert heads.stop("vm", tip=NEW, attempt_id="try") == stopped
    with pytest.raises(Refused) as refused:
        heads.stop("vm")
    assert refused.value.reason == "disk_idle"


def test_lease_keeps_other_actions_out_until_it_expires_by_the_stores_clock(memory: MemoryStore) -> None:
    heads = HeadStore(memory)
    first = lease(heads)
    with pytest.raises(Refused) as refused:
        lease(heads, "other", "b1")
    assert refused.value.reason == "leased"
    memory.clock_seconds += 61
    lease(heads, "other", "b1")
    with pytest.raises(PreconditionFailed):  # paused past its lease, awake again
        heads.publish(first, NEW)
    with pytest.raises(PreconditionFailed):
        heads.renew(first, 60)
    assert heads.withdraw(first)  # the write after its own was another's
    now = heads.read("vm").head
    assert now.tip == OLD
    assert now.lease is not None
    assert now.lease.action_id == "other"


def test_second_attempt_of_the_same_action_takes_over_and_fences_the_first(memory: MemoryStore) -> None:
    heads = HeadStore(memory)
    first, second = lease(heads), lease(heads, "act", "a2")
    with pytest.raises(PreconditionFailed):
        heads.publish(first, OTHER)
    assert heads.publish(second, NEW).head.tip == NEW


def test_expired_lease_that_nobody_took_still_publishes(memory: MemoryStore) -> None:
    held = lease(HeadStore(memory))
    memory.clock_seconds += 3600
    assert HeadStore(memory).publish(held, NEW).head.tip == NEW


def test_renewed_lease_lasts(memory: MemoryStore) -> None:
    heads = HeadStore(memory)
    held = lease(heads)
    memory.clock_seconds += 50
    held = heads.renew(held, 60)
    memory.clock_seconds += 50
    with pytest.raises(Refused):
        lease(heads, "other", "b1")
    assert heads.withdraw(held)
    assert heads.read("vm").head.lease is None
    lease(heads, "other", "b1")


def test_withdrawing_makes_a_publish_that_is_on_its_way_stale(memory: MemoryStore) -> None:
    heads = HeadStore(memory)
    held = lease(heads)
    assert heads.withdraw(held)
    with pytest.raises(PreconditionFailed):
        heads.publish(held, NEW)
    assert heads.read("vm").head.tip == OLD


def test_nothing_can_be_withdrawn_after_the_publish(memory: MemoryStore) -> None:
    heads = HeadStore(memory)
    held = lease(heads)
    heads.publish(held, NEW)
    assert not heads.withdraw(held)
    heads.start("vm", "host-1")  # whatever comes on top
    heads.stop("vm", "2" * 32)
    assert not heads.withdraw(held)


def test_a_lease_whose_renewal_was_interrupted_is_withdrawn(memory: MemoryStore) -> None:
    heads = HeadStore(memory)
    held = lease(heads)
    heads.renew(held, 60)  # its answer was not seen
    assert heads.withdraw(held)
    assert heads.read("vm").head.lease is None


def test_lease_on_a_moved_or_running_head_is_refused(memory: MemoryStore) -> None:
    heads = HeadStore(memory)
    with pytest.raises(Refused) as moved:
        heads.acquire_lease("vm", "act", "a1", 60, tip=NEW)
    heads.start("vm", "host-1")
    with pytest.raises(Refused) as running:
        lease(heads)
    assert (moved.value.reason, running.value.reason) == ("head_moved", "disk_running")


def test_publish_without_a_lease_or_with_a_wrong_tip(memory: MemoryStore) -> None:
    heads = HeadStore(memory)
    with pytest.raises(Refused) as refused:
        heads.publish(heads.read("vm"), NEW)
    assert refused.value.reason == "no_lease"
    with pytest.raises(ConfigError, match="no layer id"):
        heads.publish(lease(heads), "../etc/passwd")


def test_create_is_first_or_fails_and_survives_a_lost_answer(memory: MemoryStore) -> None:
    with pytest.raises(PreconditionFailed):
        HeadStore(memory).create(Head("vm", NEW, "disk", "us-east"))
    made = faulty(memory, Fault("put_new", "lost")).create(Head("vm2", NEW, "disk", "us-east"))
    assert HeadStore(memory).read("vm2") == made


def test_clone_shares_the_tip_and_takes_no_existing_name(memory: MemoryStore) -> None:
    heads = HeadStore(memory)
    copy = heads.clone("vm", "vm-nightly", kind="snapshot").head
    assert (copy.tip, copy.kind, copy.state, copy.generation) == (OLD, "snapshot", "idle", 1)
    with pytest.raises(Refused) as refused:
        heads.start("vm-nightly", "host-1")
    assert refused.value.reason == "snapshot_head"
    with pytest.raises(Refused) as refused:
        heads.clone("vm", "vm-nightly")
    assert refused.value.reason == "disk_exists"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "-x", "x" * 201, "é"])
def test_disk_ids_that_cannot_be_keys(memory: MemoryStore, name: str) -> None:
    with pytest.raises(ConfigError):
        HeadStore(memory).read(name)


def test_unknown_disk_is_named(memory: MemoryStore) -> None:
    with pytest.raises(NotFound, match="no disk 'none'"):
        HeadStore(memory).read("none")


BROKEN: list[tuple[str, Callable[[Head], bytes]]] = [
    ("not JSON", lambda head: b"{"),
    ("a list", lambda head: b"[]"),
    ("missing field", lambda head: b'{"disk_id": "bad"}'),
    ("unknown field", lambda head: render_head(head).replace(b'"tip"', b'"tap"')),
    ("another disk", lambda head: render_head(dataclasses.replace(head, disk_id="vm"))),
    ("wrong tip", lambda head: render_head(dataclasses.replace(head, tip="../../x"))),
    ("wrong state", lambda head: render_head(head).replace(b'"idle"', b'"lazy"')),
    ("wrong lease", lambda head: render_head(head).replace(b'"lease": null', b'"lease": 5')),
    ("deep", lambda head: b"[" * 100_000),
]


@pytest.mark.parametrize(("what", "make"), BROKEN, ids=[name for name, _ in BROKEN])
def test_malformed_record_stops_a_listing_and_is_named(
    memory: MemoryStore, what: str, make: Callable[[Head], bytes]
) -> None:
    memory.put_new("heads/bad.json", make(Head("bad", OLD, "disk", "us-east")))
    heads = HeadStore(memory)
    with pytest.raises(Permanent, match="bad"):
        heads.list()
    with pytest.raises(Permanent, match="malformed"):
        heads.read("bad")
    entries = {entry.disk_id: entry for entry in heads.entries()}
    assert entries["vm"].head is not None
    assert entries["bad"].head is None
    assert "malformed" in entries["bad"].problem


def test_listing_is_complete_or_an_error(memory: MemoryStore) -> None:
    for number in range(30):
        HeadStore(memory).create(Head(f"d{number:02}", OLD, "disk", "us-east"))
    assert [head.disk_id for head, _ in HeadStore(memory).list()] == [*(f"d{n:02}" for n in range(30)), "vm"]
    with pytest.raises(Transient):
        faulty(memory, Fault("list", "page")).list()
    with pytest.raises(Transient):
        faulty(memory, Fault("get", "not_applied", nth=12)).list()


def test_known_entries_are_not_read_again(memory: MemoryStore) -> None:
    HeadStore(memory).create(Head("vm2", OLD, "disk", "us-east"))
    known = {entry.disk_id: entry for entry in HeadStore(memory).entries()}
    HeadStore(memory).start("vm2", "host-1")
    counting = FaultyStore(memory)
    states = {entry.disk_id: entry.head.state for entry in HeadStore(counting).entries(known) if entry.head}
    assert states == {"vm": "idle", "vm2": "running"}
    assert counting.calls.count("get") == 1
