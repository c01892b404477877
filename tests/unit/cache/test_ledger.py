"""What warming fetched, by day and run, and whether it may fetch more."""

import datetime
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks import clock
from tasks.cache.ledger import SharedBudget, WarmLedger
from tasks.cache.regional import SliceRef
from tasks.cache.warmer import Claims
from tasks.units import MIB

NOON = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


def days_later(monkeypatch, days: int) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOON + datetime.timedelta(days=days))


def test_bytes_are_kept_by_day_and_forgotten_after_two_months(tmp_path, monkeypatch):
    ledger = WarmLedger(tmp_path)
    for day, count in ((0, 5), (1, 7), (1, 1)):
        days_later(monkeypatch, day)
        ledger.add("run", count)
    assert ledger.by_day() == [(0, 8), (1, 5)]
    assert ledger.by_day(without=7) == [(0, 1), (1, 5)]
    days_later(monkeypatch, 61)
    ledger.add("later", 2)
    assert ledger.by_day() == [(0, 2)]


def test_nothing_is_lost_when_many_write_at_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: WarmLedger(tmp_path).add(f"run-{number % 2}", 3), range(200)))
    assert WarmLedger(tmp_path).read().runs == {"run-0": 300, "run-1": 300}


def test_old_runs_do_not_fill_the_file(tmp_path):
    for number in range(150):
        WarmLedger(tmp_path).add(f"run-{number}", 1)
    assert list(WarmLedger(tmp_path).read().runs) == [f"run-{number}" for number in range(50, 150)]


@pytest.mark.parametrize("content", [b"", b"junk", b"[]", b'{"days": 5}', b'{"days": {"a": 1}}', b"\xff\xfe"])
def test_a_damaged_file_stops_nobody(tmp_path, content):
    (tmp_path / "ledger").write_bytes(content)
    ledger = WarmLedger(tmp_path)
    assert ledger.by_day() == []
    ledger.add("run", 4)
    assert ledger.by_day() == [(0, 4)]


def test_all_disks_of_a_run_share_its_bound(tmp_path):
    one, two, other = (SharedBudget(WarmLedger(tmp_path), run, 10, lambda _: (1000, "")) for run in ("a", "a", "b"))
    one.spend(6)
    assert two.refusal(0, 4) == ""
    assert two.refusal(0, 5) == "the run's limit of bytes"
    assert other.refusal(0, 5) == ""


def test_what_others_warmed_takes_room_and_ones_own_bytes_count_once(tmp_path):
    seen = []

    def room(others):
        seen.append(list(others))
        return 100 - sum(count for _, count in others), "full"

    mine, theirs = (SharedBudget(WarmLedger(tmp_path), run, 1 << 40, room) for run in ("mine", "theirs"))
    theirs.spend(30)
    mine.spend(50)
    assert mine.refusal(50, 20) == ""
    assert mine.refusal(50, 21) == "full"
    assert seen[0] == [(0, 30)]


def test_what_was_not_fetched_may_be_claimed_by_another():
    claims, one = Claims(), SliceRef("a" * 32, "r", 0, 10 * MIB)
    assert claims.take(one)
    assert claims.coming_bytes == 2 * MIB
    claims.give_back(one)
    assert claims.take(one)
    claims.done(one)
    assert claims.coming_bytes == 0
    assert not claims.take(one)
