"""Limits, back-off and capacity, without a server."""

import datetime
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.cache import guests
from tasks.cache.guests import SHARE_BESIDE_GUESTS, GuestLimits, GuestWatch
from tasks.cache.limits import SharedLimits
from tasks.cache.regional import SliceRef
from tasks.cache.warmer import Claims, Warmer
from tasks.inventory.reads import latency_bucket
from tasks.stages.warm_chain import WarmChain
from tasks.stages.warm_limits import allowed_bytes
from tasks.units import GIB, MIB


def chain(pressure: list[tuple[int, int]], disk_days_ago: float | None) -> WarmChain:
    return WarmChain("d", [], {}, pressure=pressure, disk_days_ago=disk_days_ago)


@pytest.mark.parametrize(
    ("cache_bytes", "pressure", "disk_days_ago", "expected"),
    [
        (0, [(0, 500 * GIB)], None, 1 << 62),  # unknown: nginx's own order decides
        (100 * GIB, [], None, 80 * GIB),
        (100 * GIB, [(0, 30 * GIB), (1, 30 * GIB)], None, 20 * GIB),  # all fits: the room that is left
        (100 * GIB, [(0, 50 * GIB), (3, 50 * GIB)], 2.0, 40 * GIB),  # as hot as what it pushes out
        (100 * GIB, [(0, 50 * GIB), (3, 50 * GIB)], 5.0, 0),  # colder
        (100 * GIB, [(0, 90 * GIB)], None, 0),  # never read here
    ],
)
def test_what_is_hotter_is_never_pushed_out(cache_bytes, pressure, disk_days_ago, expected):
    allowed, why = allowed_bytes(chain(pressure, disk_days_ago), int(cache_bytes * 0.8))
    assert allowed == expected
    assert bool(why) == (cache_bytes > 0)


def test_places_are_shared_by_everybody_who_uses_the_folder(tmp_path):
    together, most = [0], [0]
    lock = threading.Lock()

    def work(_: int) -> None:
        with SharedLimits(tmp_path, 3, 0).slot():
            with lock:
                together[0] += 1
                most[0] = max(most[0], together[0])
            time.sleep(0.02)
            with lock:
                together[0] -= 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(24)))
    assert most[0] == 3


def test_bandwidth_is_shared_too(tmp_path):
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: SharedLimits(tmp_path, 4, 10 * MIB).spend(MIB), range(6)))
    assert 0.45 < time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("always", "beside_guests", "guests", "least", "most"),
    [
        (0, 10, True, 0.45, 2.0),
        (0, 10, False, 0.0, 0.1),  # nobody reads: as fast as it goes
        (10, 40, True, 0.45, 2.0),  # the smaller one
        (10, 0, True, 0.45, 2.0),
        (40, 10, False, 0.11, 0.4),
    ],
)
def test_beside_guests_the_host_fetches_more_slowly(tmp_path, always, beside_guests, guests, least, most):
    started = time.monotonic()
    limits = [SharedLimits(tmp_path, 4, always * MIB, beside_guests * MIB) for _ in range(6)]  # one a process
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda one: one.spend(MIB, beside_guests=guests), limits))
    assert least < time.monotonic() - started < most


@pytest.mark.parametrize(("log", "least", "most"), [(False, 0.35, 2.0), (True, 0.0, 0.2)])
def test_warming_is_as_slow_as_guests_need(tmp_path, log, least, most):
    """Without a log guests are taken to read; an empty log says that nobody does."""
    path = tmp_path / "access.log"
    path.write_text("")
    watch = GuestWatch(path if log else None, lambda: None, GuestLimits())
    run = Warmer(Cache(), SharedLimits(tmp_path, 4, 0, 20 * MIB), watch, concurrency=4)  # type: ignore[arg-type]
    done = run.run(SliceRef("a" * 32, "r", number, 40 * MIB) for number in range(5))
    assert done.fetched == 5
    assert least < done.seconds < most


@pytest.mark.parametrize("content", [b"", b"junk", b"9e99", b"nan", b"\xff\xfe"])
def test_a_damaged_bandwidth_file_does_not_stop_anybody(tmp_path, content):
    limits = SharedLimits(tmp_path, 1, 100 * MIB)
    (tmp_path / "bandwidth").write_bytes(content)
    started = time.monotonic()
    limits.spend(MIB)
    assert time.monotonic() - started < 0.5


def test_a_slice_is_claimed_once():
    claims, one = Claims(), SliceRef("a" * 32, "r", 3, 100 * MIB)
    assert [claims.take(one), claims.take(one), claims.take(SliceRef("a" * 32, "", 3, 100 * MIB))] == [
        True,
        False,
        False,
    ]


def test_progress_tells_how_long_it_still_takes(tmp_path):
    watch = GuestWatch(None, lambda: None, GuestLimits())
    run = Warmer(Cache(), SharedLimits(tmp_path, 2, 0), watch, concurrency=2)  # type: ignore[arg-type]
    run.run(SliceRef("a" * 32, "r", number, 40 * MIB) for number in range(5))
    assert "ETA" not in run.progress(10.0)
    run.expect(20)
    assert run.progress(10.0) == "warm: 5/20 slices, 10.0 MiB fetched, 1.0 MiB/s, ETA 30.0 s"


def test_the_last_slice_is_shorter():
    assert SliceRef("a" * 32, "r", 1, 2 * MIB + 5).last_byte == 2 * MIB + 4
    assert SliceRef("a" * 32, "r", 0, 2 * MIB + 5).length == 2 * MIB


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, 8), (0.001, 9), (0.001024, 10), (1.0, 19), (1e9, 30)])
def test_latency_classes_are_powers_of_two_microseconds(seconds, bucket):
    assert latency_bucket(seconds) == bucket


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        self.time += 1.0
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.time, datetime.UTC)


class Cache:
    """One that has nothing and fetches at once."""

    def fetch(self, one: SliceRef) -> bool:
        return False


class Latency:
    """What a probe measures."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def ticking(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(guests, "clock", clock)
    return clock


def test_beside_guests_warming_starts_with_little_and_slows_down_when_hits_do(ticking):
    taken = Latency(0.004)
    watch = GuestWatch(None, taken, GuestLimits())
    before = [watch.share() for _ in range(10)]
    assert before == sorted(before)
    assert before[0] < before[-1] == SHARE_BESIDE_GUESTS
    taken.seconds = 0.040
    during = [watch.share() for _ in range(8)]
    assert min(during) == 0.0
    taken.seconds = 0.004
    assert [watch.share() for _ in range(10)][-1] == SHARE_BESIDE_GUESTS


def test_slowness_that_is_not_of_warming_holds_it_up_for_one_pause_only(ticking):
    """In the pause hits are slow too: so that is what is usual now."""
    taken = Latency(0.004)
    watch = GuestWatch(None, taken, GuestLimits())
    [watch.share() for _ in range(10)]
    taken.seconds = 0.040
    assert [watch.share() for _ in range(40)][-1] == SHARE_BESIDE_GUESTS


def test_noise_below_two_milliseconds_is_no_reason(ticking):
    taken = Latency(0.0002)
    watch = GuestWatch(None, taken, GuestLimits())
    [watch.share() for _ in range(10)]
    taken.seconds = 0.0019
    assert {watch.share() for _ in range(20)} == {SHARE_BESIDE_GUESTS}


def test_when_nobody_reads_warming_takes_all(ticking, tmp_path):
    log = tmp_path / "access.log"
    log.write_text("")
    watch = GuestWatch(log, Latency(0.004), GuestLimits())
    assert watch.share() == 1.0
    log.write_text(log_line("guest", "HIT", ticking.time))
    assert watch.share() == 0.0  # what is usual is measured first
    assert 0.0 < watch.share() < SHARE_BESIDE_GUESTS
    ticking.time += 10
    assert watch.share() == 1.0


@pytest.mark.parametrize(
    ("lines", "beside"),
    [
        ([("guest", "HIT"), ("warm", "HIT"), ("probe", "HIT")], True),
        ([("warm", "HIT"), ("guest", "MISS"), ("warm", "MISS")], True),
        ([("warm", "HIT"), ("worker", "MISS"), ("probe", "HIT")], False),
    ],
)
def test_one_guest_among_others_is_seen(ticking, tmp_path, lines, beside):
    log = tmp_path / "access.log"
    log.write_text("".join(log_line(client, cache, ticking.time) for client, cache in lines))
    watch = GuestWatch(log, Latency(0.004), GuestLimits())
    assert (watch.share() < 1.0) == beside


def log_line(client: str, cache: str, at: float = 0.0) -> str:
    line = {
        "time": at, "main": "1", "method": "GET", "status": "206", "layer": "a" * 32, "layer_region": "", "range": "",
        "slice": "", "cache": cache, "sent": "1", "upstream_bytes": "", "seconds": "0.1", "disk": "", "start": "",
        "client": client,
    }  # fmt: skip
    return json.dumps(line, separators=(",", ":")) + "\n"  # as nginx writes it


@pytest.mark.parametrize(
    ("client", "cache", "paused"),
    [("guest", "MISS", True), ("", "MISS", True), ("warm", "MISS", False), ("guest", "HIT", False)],
)
def test_only_guests_misses_pause_warming(ticking, tmp_path, client, cache, paused):
    log = tmp_path / "access.log"
    ticking.time = 100.0
    log.write_text(log_line("guest", "MISS", ticking.time - 60) * 1000)  # old lines: from before this run
    watch = GuestWatch(log, lambda: None, GuestLimits(misses_per_second=2.0))
    assert watch.share() == 1.0
    with log.open("a") as file:
        file.write(log_line(client, cache, ticking.time) * 20)
    watch.share()  # the first look after guests came is a pause: what is usual is measured
    assert (watch.share() == 0.0) is paused


def test_a_pause_ends_when_the_misses_are_over(ticking, tmp_path):
    log = tmp_path / "access.log"
    log.write_text("")
    watch = GuestWatch(log, lambda: None, GuestLimits(misses_per_second=2.0))
    watch.share()
    log.write_text(log_line("guest", "MISS", ticking.time) * 20)
    assert watch.wait()
    assert watch.paused_seconds > 0


def test_a_pause_that_does_not_end_is_given_up(ticking, tmp_path):
    log = tmp_path / "access.log"
    log.write_text("")
    watch = GuestWatch(log, lambda: None, GuestLimits(misses_per_second=0.0, max_pause_seconds=2.0))
    watch.share()
    log.write_text(log_line("guest", "MISS", ticking.time) * 20)
    assert not watch.wait()
