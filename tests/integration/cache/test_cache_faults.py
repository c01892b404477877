"""A real nginx before an origin that misbehaves: guests get right bytes or a clear error, and nothing wrong is kept."""

import os
import secrets
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.cache.guests import GuestLimits, GuestWatch
from tasks.cache.limits import SharedLimits
from tasks.cache.nbd.blocks import Layer
from tasks.cache.nbd.reader import BlockReader, Options
from tasks.cache.nginx_conf import OriginLimits
from tasks.cache.regional import RegionalCache, SliceRef
from tasks.cache.warmer import Warmer
from tasks.errors import ChainwrightError, Transient
from tasks.settings import Fleet, Region
from tasks.units import MIB, SLICE_BYTES
from tests.support.bad_http import Origin, running_origin
from tests.support.cache_server import CacheServer, running_cache, wait_until

BODY = os.urandom(5 * MIB + 99)
SLICES = 3
LIMITS = OriginLimits(connect_seconds=1, read_seconds=1, tries=3, retry_seconds=3, lock_seconds=5)


@pytest.fixture(scope="module")
def setup():
    """A cache of us-east before two scripted origins."""
    with running_origin() as east, running_origin() as west:
        regions = (
            Region(name="us-east", endpoint=east.url, bucket="cw-us-east"),
            Region(name="eu-west", endpoint=west.url, bucket="cw-eu-west"),
        )
        fleet = Fleet(control_region="us-east", regions=regions)
        with running_cache(fleet, "us-east", limits=LIMITS) as cache:
            yield cache, east, west


@pytest.fixture
def parts(setup):
    cache, east, west = setup
    for origin in (east, west):
        origin.faults.clear()
        origin.always = origin.only = ""
        origin.delay_seconds, origin.stall_seconds = 0.0, 3.0
    cache.forget()
    return cache, east, west


def new_layer(origin: Origin, body: bytes = BODY) -> str:
    layer = secrets.token_hex(16)
    origin.bodies[f"/layers/{layer}.qcow2"] = body
    return layer


def guest(cache: CacheServer, deadline: float = 20.0) -> BlockReader:
    return BlockReader(Options(cache.url, deadline_seconds=deadline, timeout_seconds=2))


def read(reader: BlockReader, layer: Layer, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    reader.read_into(layer, offset, memoryview(buffer))
    return bytes(buffer)


def cached_content(cache: CacheServer, layer: str) -> dict[int, bytes]:
    """What the cache holds, slice by slice."""
    held = {}
    for number in range(SLICES):
        last = min((number + 1) * SLICE_BYTES, len(BODY)) - 1
        answer = cache.get(f"/cached/layers/{layer}.qcow2", number * SLICE_BYTES, last)
        if answer.status == 206:
            held[number] = answer.data
    return held


def right(number: int) -> bytes:
    return BODY[number * SLICE_BYTES : (number + 1) * SLICE_BYTES]


@pytest.mark.parametrize(
    "fault",
    ["status:503", "status:500", "status:429", "drop", "close", "garbage", "lie", "full", "short", "stall", "trunc"],
)
@pytest.mark.parametrize("times", [1, 4])
def test_a_guest_reads_on_through_faults_and_nothing_wrong_is_kept(parts, fault, times):
    cache, east, _ = parts
    layer = new_layer(east)
    east.faults.extend([fault] * times)
    one = Layer(layer, "us-east", len(BODY))
    assert read(guest(cache), one, MIB, 3 * MIB) == BODY[MIB : 4 * MIB]
    east.faults.clear()
    held = cached_content(cache, layer)
    assert held == {number: right(number) for number in held}


def test_a_burst_of_503_is_not_seen_by_a_guest(parts):
    cache, east, _ = parts
    layer = new_layer(east)
    east.always = "status:503"
    threading.Timer(2.0, lambda: setattr(east, "always", "")).start()
    assert read(guest(cache), Layer(layer, "us-east", len(BODY)), 0, 4096) == BODY[:4096]


def test_one_503_is_retried_inside_the_cache(parts):
    cache, east, _ = parts
    layer = new_layer(east)
    east.faults.append("status:503")
    assert cache.get(f"/us-east/layers/{layer}.qcow2", 0, 9).status == 206


def test_an_origin_that_is_down_hurts_only_its_own_missing_slices(parts):
    cache, east, west = parts
    far, near = new_layer(west), new_layer(east)
    assert cache.get(f"/eu-west/layers/{far}.qcow2", 0, 9).status == 206
    west.always = "close"
    reader = guest(cache, deadline=3)
    started = time.monotonic()
    with pytest.raises(ChainwrightError, match="503"):
        read(reader, Layer(far, "eu-west", len(BODY)), 3 * MIB, 10)
    assert time.monotonic() - started < 12
    assert read(reader, Layer(far, "eu-west", len(BODY)), 0, 10) == BODY[:10]
    assert read(reader, Layer(near, "us-east", len(BODY)), 0, 10) == BODY[:10]


def test_the_answer_for_a_region_that_is_down_is_clear_and_not_a_404(parts):
    cache, east, west = parts
    layer = new_layer(east)
    assert cache.get(f"/layers/{layer}.qcow2", 0, 9).status == 206
    west.always = "status:503"
    known = cache.get(f"/layers/{layer}.qcow2", 0, 9)
    unknown = cache.get(f"/layers/{secrets.token_hex(16)}.qcow2", 0, 9)
    assert (known.status, unknown.status) == (206, 503)
    assert unknown.headers["Retry-After"] == "1"
    west.always = ""
    assert cache.get(f"/layers/{new_layer(west)}.qcow2", 0, 9).status == 206


def test_a_slow_origin_is_waited_for_once_by_all(parts):
    cache, east, _ = parts
    layer = new_layer(east)
    east.delay_seconds = 0.6
    reader, one = guest(cache), Layer(layer, "us-east", len(BODY))
    before = len(east.requests)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: read(reader, one, n * 100_000, 100), range(8)))
    assert answers == [BODY[n * 100_000 : n * 100_000 + 100] for n in range(8)]
    assert len(east.requests) - before == 1


def test_a_killed_cache_is_only_a_pause_for_guests(parts):
    cache, east, _ = parts
    layer = new_layer(east)
    one, errors, done = Layer(layer, "us-east", len(BODY)), [], threading.Event()

    def loop() -> None:
        reader = BlockReader(Options(cache.url, deadline_seconds=30, timeout_seconds=5, memory_bytes=65536))
        offset = 0
        while not done.is_set():
            offset = (offset + 777_777) % (len(BODY) - 5000)
            if read(reader, one, offset, 5000) != BODY[offset : offset + 5000]:
                errors.append(offset)

    with ThreadPoolExecutor(4) as pool:
        loops = [pool.submit(loop) for _ in range(4)]
        for _ in range(2):
            time.sleep(0.5)
            cache.kill()
            time.sleep(0.3)
            cache.start()
        time.sleep(0.5)
        done.set()
        for one_loop in loops:
            one_loop.result(40)
    assert not errors
    assert cached_content(cache, layer) == {number: right(number) for number in range(SLICES)}


def test_a_full_disk_does_not_stop_guests(parts, tmp_path):
    cache, east, _ = parts
    disk = tmp_path / "small"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with running_cache(cache.fleet, "us-east", cache_dir=disk, limits=LIMITS, min_free_bytes=0) as small:
            reader = guest(small)
            for _ in range(3):
                layer = new_layer(east)
                assert read(reader, Layer(layer, "us-east", len(BODY)), 0, len(BODY)) == BODY
                held = cached_content(small, layer)
                assert held == {number: right(number) for number in held}
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def warmer(cache: CacheServer, folder, **watch) -> Warmer:
    guests = GuestWatch(cache.access_log, lambda: None, GuestLimits(**watch))
    return Warmer(RegionalCache(cache.url, "warm", 5), SharedLimits(folder, 4, 0), guests, concurrency=4)


def slices_of(layer: str, region: str) -> list[SliceRef]:
    return [SliceRef(layer, region, number, len(BODY)) for number in range(SLICES)]


def test_warming_goes_on_where_one_region_fails_and_a_retry_finishes(parts, tmp_path, monkeypatch):
    cache, east, west = parts
    near, far = new_layer(east), new_layer(west)
    wanted = slices_of(far, "eu-west") + slices_of(near, "us-east")
    west.always = "status:503"
    monkeypatch.setattr("tasks.cache.regional.retry.store_call", _two_tries)
    first = warmer(cache, tmp_path).run(wanted)
    assert (first.fetched, first.failed) == (3, 3)
    assert "503" in first.errors["eu-west"]
    west.always = ""
    second = warmer(cache, tmp_path).run(wanted)
    assert (second.fetched, second.present, second.failed) == (3, 3, 0)
    assert cached_content(cache, far) == {number: right(number) for number in range(SLICES)}


def _two_tries():
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

    return Retrying(retry=retry_if_exception_type(Transient), stop=stop_after_attempt(2), reraise=True)


def test_warming_goes_through_a_restart_of_the_cache(parts, tmp_path):
    cache, east, _ = parts
    layers = [new_layer(east) for _ in range(12)]
    wanted = [one for layer in layers for one in slices_of(layer, "us-east")]
    east.delay_seconds = 0.1
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(warmer(cache, tmp_path).run, wanted)
        wait_until(lambda: any(line["client"] == "warm" for line in cache.log()))
        cache.kill()
        cache.start()
        done = running.result(60)
    assert done.fetched + done.present + done.failed == len(wanted)
    again = warmer(cache, tmp_path).run(wanted)
    assert (again.failed, again.fetched + again.present) == (0, len(wanted))
    for layer in layers:
        assert cached_content(cache, layer) == {number: right(number) for number in range(SLICES)}


def test_warming_pauses_while_guests_wait_for_misses(parts, tmp_path):
    cache, east, _ = parts
    layer, busy = new_layer(east), threading.Event()

    def guest_misses() -> None:
        while not busy.is_set():
            cache.get(f"/us-east/layers/{new_layer(east, BODY[:1000])}.qcow2", 0, 9, X_Chainwright_Client="guest")
            time.sleep(0.02)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(guest_misses)
        one = warmer(cache, tmp_path, misses_per_second=5.0, max_pause_seconds=30)
        one._watch.share()
        wait_until(lambda: one._watch.share() == 0.0)
        cache.forget()
        threading.Timer(2.0, busy.set).start()
        started = time.monotonic()
        done = one.run(slices_of(layer, "us-east"))
        running.result(10)
    assert done.fetched == SLICES
    assert time.monotonic() - started > 2.0
    assert done.paused_seconds > 1.5


def test_warming_gives_up_when_guests_stay_busy(parts, tmp_path):
    cache, east, _ = parts
    one = warmer(cache, tmp_path, misses_per_second=0.0, max_pause_seconds=0.5)
    one._watch.share()
    cache.get(f"/us-east/layers/{new_layer(east)}.qcow2", 0, 9)
    wait_until(lambda: one._watch.share() == 0.0)
    done = one.run(slices_of(new_layer(east), "us-east"))
    assert (done.fetched, done.left_out) == (0, SLICES)
    assert "guests" in done.note


def test_a_rotated_or_truncated_log_does_not_blind_the_watch(parts, tmp_path):
    cache, east, _ = parts
    watch = GuestWatch(cache.access_log, lambda: None, GuestLimits(misses_per_second=0.1))
    watch.share()
    cache.access_log.rename(tmp_path / "old.log")
    cache.reopen_logs()
    wait_until(cache.access_log.exists)
    cache.seen = 0
    cache.get(f"/us-east/layers/{new_layer(east)}.qcow2", 0, 9)
    wait_until(lambda: watch.share() == 0.0)
