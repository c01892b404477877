"""Pure decisions about heads: who wrote a generation, who may lease, start and stop."""

import dataclasses
import datetime
import json

import pytest

from tasks.chain import head as heads
from tasks.chain.head import TRAIL_LENGTH, Head, Lease
from tasks.errors import Refused

NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
BASE = Head("disk", "0" * 32, "disk", "us-east", attempt_id="a1", trail=("a1",))


def after(head: Head, *attempts: str) -> Head:
    for attempt in attempts:
        head = head.next(attempt, "now")
    return head


def leased(action: str, seconds: float) -> Head:
    expires = (NOW + datetime.timedelta(seconds=seconds)).isoformat()
    return dataclasses.replace(BASE, lease=Lease(action, "x", expires, 1))


@pytest.mark.parametrize(
    ("current", "fate"),
    [
        (BASE, "pending"),
        (after(BASE, "mine"), "mine"),
        (after(BASE, "mine", "vm-start"), "mine"),
        (after(BASE, "mine", *map(str, range(TRAIL_LENGTH - 1))), "mine"),
        (after(BASE, "mine", *map(str, range(TRAIL_LENGTH))), "unknown"),
        (after(BASE, "vm-start"), "other"),
        (after(BASE, "vm-start", "mine"), "other"),
    ],
)
def test_fate_of_a_write_whose_answer_was_lost(current: Head, fate: str) -> None:
    assert heads.fate_of_write(after(BASE, "mine"), current) == fate


def test_json_round_trip_keeps_lease_and_trail() -> None:
    head = leased("act", 60).next("a2", "now", tip="1" * 32)
    assert heads.head_from_json(json.loads(json.dumps(heads.head_to_json(head)))) == head


def test_record_without_trail_is_read() -> None:
    raw = heads.head_to_json(BASE)
    del raw["trail"]
    assert heads.head_from_json(raw).writer_of(1) == "a1"


@pytest.mark.parametrize(("action", "seconds", "free"), [("other", 60, False), ("other", -1, True), ("act", 60, True)])
def test_lease_is_taken_when_free_expired_or_of_the_same_action(action: str, seconds: float, free: bool) -> None:
    head = leased(action, seconds)
    if free:
        heads.check_leasable(head, "act", NOW)
    else:
        with pytest.raises(Refused) as refused:
            heads.check_leasable(head, "act", NOW)
        assert refused.value.reason == "leased"


def test_lease_with_unreadable_expiry_counts_as_live() -> None:
    head = dataclasses.replace(BASE, lease=Lease("other", "x", "soon", 1))
    assert heads.lease_is_live(head, NOW)


@pytest.mark.parametrize(
    ("check", "changes", "reason"),
    [
        (heads.check_startable, {"state": "running"}, "disk_running"),
        (heads.check_startable, {"kind": "snapshot"}, "snapshot_head"),
        (heads.check_stoppable, {}, "disk_idle"),
        (heads.check_held, {}, "no_lease"),
        (lambda head: heads.check_leasable(head, "act", NOW), {"state": "running"}, "disk_running"),
    ],
)
def test_refusals(check: object, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(Refused) as refused:
        check(dataclasses.replace(BASE, **changes))  # type: ignore[operator]
    assert refused.value.reason == reason
