"""The exporter's reader against a cache that misbehaves: right bytes or a clear error, in bounded time."""

import os
import secrets
import threading
import time

import pytest

from tasks.cache.nbd.blocks import BLOCK_BYTES, Layer
from tasks.cache.nbd.reader import BlockReader, Options
from tasks.errors import ChainwrightError, NotFound, Permanent, Transient
from tasks.units import MIB
from tests.support.bad_http import running_origin

BODY = os.urandom(3 * MIB + 777)
LAYER = secrets.token_hex(16)
ONE_FAULT = ["status:503", "status:500", "status:429", "drop", "short", "full", "lie", "garbage", "close"]


@pytest.fixture
def origin():
    with running_origin({f"/layers/{LAYER}.qcow2": BODY}) as one:
        yield one


def reader(origin, deadline: float = 60.0, timeout: float = 1.0, **options) -> BlockReader:
    return BlockReader(Options(origin.url, deadline_seconds=deadline, timeout_seconds=timeout, **options))


def read(one: BlockReader, offset: int, length: int, layer: Layer | None = None) -> bytes:
    buffer = bytearray(length)
    one.read_into(layer or Layer(LAYER), offset, memoryview(buffer))
    return bytes(buffer)


@pytest.mark.parametrize("fault", ONE_FAULT)
@pytest.mark.parametrize("times", [1, 3])
def test_passing_faults_are_overcome(origin, fault, times):
    origin.faults.extend([fault] * times)
    assert read(reader(origin), MIB - 5, 300_000) == BODY[MIB - 5 : MIB + 299_995]


@pytest.mark.parametrize("fault", ["stall", "trunc"])
def test_a_silent_server_is_given_up_after_the_timeout(origin, fault):
    origin.faults.append(fault)
    origin.stall_seconds = 60
    started = time.monotonic()
    assert read(reader(origin, timeout=0.3), 0, 1000) == BODY[:1000]
    assert time.monotonic() - started < 30  # long before the server would have spoken


@pytest.mark.parametrize("fault", ONE_FAULT)
def test_lasting_faults_end_in_an_error_within_the_deadline(origin, fault):
    origin.always = fault
    started = time.monotonic()
    with pytest.raises(Transient):
        read(reader(origin, deadline=1.5), 0, 1000)
    assert time.monotonic() - started < 20  # without the deadline it would go on for ever


def test_a_200_is_never_taken_for_the_range(origin):
    origin.always = "full"
    with pytest.raises(ChainwrightError, match="200 instead of 206"):
        read(reader(origin, deadline=2), MIB, 1000)


def test_an_unknown_layer_is_known_at_once(origin):
    with pytest.raises(NotFound, match="no such layer"):
        read(reader(origin), 0, 10, Layer("f" * 32))
    assert len(origin.requests) == 1


def test_a_layer_that_was_read_before_is_waited_for(origin):
    """A bucket's policy that was changed by mistake, and back."""
    layer, one = Layer(LAYER), reader(origin, deadline=5)
    assert read(one, 0, 10, layer) == BODY[:10]
    origin.faults.extend(["status:404"] * 3)
    assert read(one, 2 * MIB, 10, layer) == BODY[2 * MIB : 2 * MIB + 10]
    origin.always = "status:404"
    with pytest.raises(Transient, match="no such layer, though it was read before"):
        read(one, MIB, 10, layer)


def test_an_object_that_was_replaced_fails_closed(origin):
    layer, one = Layer(LAYER), reader(origin)
    assert read(one, 0, 10, layer) == BODY[:10]
    origin.always = "etag"
    with pytest.raises(Permanent, match="replaced"):
        read(one, 2 * MIB, 10, layer)


def test_the_manifests_etag_and_size_are_demanded(origin):
    with pytest.raises(Permanent, match="ETag"):
        read(reader(origin), 0, 10, Layer(LAYER, etag='"another"'))
    with pytest.raises(Permanent, match="expected 99"):
        read(reader(origin), 0, 10, Layer(LAYER, size=99))


def test_reads_behind_the_end_are_refused(origin):
    with pytest.raises(NotFound, match="behind the end"):
        read(reader(origin), len(BODY) - 5, 6)
    assert read(reader(origin), len(BODY) - 5, 5) == BODY[-5:]


def test_readers_of_the_same_block_share_one_request(origin):
    origin.delay_seconds = 0.2
    one, layer = reader(origin), Layer(LAYER, size=len(BODY))
    threads = [threading.Thread(target=read, args=(one, 4096 * n, 4096, layer)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(origin.requests) == 1


def test_what_is_in_memory_is_not_asked_for_again(origin):
    one, layer = reader(origin), Layer(LAYER)
    for _ in range(3):
        read(one, 100, 50_000, layer)
    assert len(origin.requests) == 1


def test_memory_stays_bounded(origin):
    one, layer = reader(origin, memory_bytes=4 * BLOCK_BYTES), Layer(LAYER)
    for offset in range(0, 3 * MIB, BLOCK_BYTES):
        assert read(one, offset, 100, layer) == BODY[offset : offset + 100]
    assert len(one._store._recent) <= 4


def test_a_sequential_reader_needs_few_requests(origin):
    one, layer = reader(origin), Layer(LAYER)
    whole = b"".join(read(one, offset, 32768, layer) for offset in range(0, 2 * MIB, 32768))
    assert whole == BODY[: 2 * MIB]
    assert len(origin.requests) <= 5


def test_what_the_cache_lacks_is_fetched_as_a_whole_slice(origin):
    origin.only, origin.always = "^/cached/", "status:412"
    one, layer = reader(origin), Layer(LAYER, "us-east", len(BODY))
    assert read(one, MIB, 10, layer) == BODY[MIB : MIB + 10]
    assert read(one, 10, 10, layer) == BODY[10:20]
    assert [(path.split("/")[1], asked) for _, path, asked in origin.requests] == [
        ("cached", f"bytes={MIB}-{MIB + BLOCK_BYTES - 1}"),
        ("us-east", f"bytes=0-{2 * MIB - 1}"),
    ]


def test_a_missing_slice_is_asked_for_once_by_many_readers(origin):
    origin.only, origin.always, origin.delay_seconds = "^/cached/", "status:412", 0.05
    one, layer = reader(origin), Layer(LAYER, size=len(BODY))
    results: dict[int, bytes] = {}
    offsets = [n * 100_000 for n in range(20)]
    threads = [
        threading.Thread(target=lambda o: results.update({o: read(one, o, 100, layer)}), args=(o,)) for o in offsets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {offset: BODY[offset : offset + 100] for offset in offsets}
    assert sum(not path.startswith("/cached/") for _, path, _ in origin.requests) == 1
