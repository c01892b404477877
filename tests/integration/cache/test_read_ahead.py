"""What a disk's last starts read is in the exporter's memory before its guest asks, through a real cache and store."""

import json
import secrets
import subprocess
import time
from pathlib import Path

import pytest

from tasks.cache.export import ChainLayer, write_chain_file
from tasks.cache.nbd.exporter import Export, Exporter
from tasks.cache.nbd.reader import Options
from tasks.errors import NotFound
from tasks.units import KIB, MIB, SLICE_BYTES
from tests.support.cache_server import CacheServer, put_layer, running_cache, wait_until
from tests.support.delay import delayed
from tests.support.exporter import exporter

pytestmark = pytest.mark.s3
SLICES = 6
BODY = secrets.token_bytes(SLICES * SLICE_BYTES - 1000)
HOME = "eu-west"  # where the layer lives


@pytest.fixture
def layer(stores) -> str:
    return put_layer(stores, HOME, BODY)


@pytest.fixture
def chain(layer, tmp_path):
    """Writes the chain file of disk `d` with these starts; the folder."""

    def write(*numbers: int) -> Path:
        write_chain_file(tmp_path, "d", [ChainLayer(layer, HOME, len(BODY))], [(layer, number) for number in numbers])
        return tmp_path

    return write


def guest_read(one: Exporter, opened: Export, offset: int, length: int) -> bytes:
    """As a QEMU that has read the header before."""
    buffer = bytearray(length)
    opened.reader.reads_header()
    one.blocks.read_into(opened.layer, offset, memoryview(buffer), reader=opened.reader)
    return bytes(buffer)


def asked(cache: CacheServer) -> list[tuple[int, int, bool]]:
    """(slice, bytes, of a start?) of what the exporter asked for, its reading of the header left out."""
    lines = [line for line in cache.log() if line["main"] and not line["range"].startswith("bytes=0-")]
    ranges = [[int(part) for part in line["range"].removeprefix("bytes=").split("-")] for line in lines]
    return [
        (first // SLICE_BYTES, last - first + 1, bool(line["start"]))
        for (first, last), line in zip(ranges, lines, strict=True)
    ]


def test_a_guest_asks_for_nothing_that_its_last_starts_read(cache, chain, layer):
    one = Exporter(Options(cache.url), chain(4, 2))
    opened = one.open(f"{layer}/d")
    wait_until(lambda: len(asked(cache)) == 2)
    assert sorted(asked(cache)) == [(2, SLICE_BYTES, False), (4, SLICE_BYTES, False)]
    wait_until(lambda: not one.blocks._pending)
    cache.forget()
    assert guest_read(one, opened, 2 * SLICE_BYTES, SLICE_BYTES) == BODY[2 * SLICE_BYTES : 3 * SLICE_BYTES]
    wait_until(lambda: bool(asked(cache)))
    assert asked(cache) == [(2, 1, True)]


def test_what_the_cache_has_is_left_there(cache, chain, layer):
    for number in (2, 4):
        cache.get(f"/{HOME}/layers/{layer}.qcow2", number * SLICE_BYTES, number * SLICE_BYTES)
    cache.forget()
    one = Exporter(Options(cache.url), chain(4, 2, 3))
    opened = one.open(f"{layer}/d")
    wait_until(lambda: len(asked(cache)) == 3 and not one.blocks._pending)
    assert sorted(asked(cache)) == [(2, 1, False), (3, SLICE_BYTES, False), (4, 1, False)]
    cache.forget()
    assert guest_read(one, opened, 2 * SLICE_BYTES, 1000) == BODY[2 * SLICE_BYTES :][:1000]
    wait_until(lambda: bool(asked(cache)))
    assert asked(cache) == [(2, 64 * KIB, True)]


def test_opening_the_layers_below_the_tip_is_not_slowed_down(cache, layer, stores, tmp_path):
    base = put_layer(stores, HOME, BODY[:MIB])
    layers = [ChainLayer(base, HOME, MIB), ChainLayer(layer, HOME, len(BODY))]
    write_chain_file(tmp_path, "d", layers, [(layer, 3)])
    one = Exporter(Options(cache.url), tmp_path)
    one.open(f"{base}/d")
    time.sleep(0.3)
    assert asked(cache) == []
    one.open(f"{layer}/d")
    wait_until(lambda: asked(cache) == [(3, SLICE_BYTES, False)])


def test_the_next_boot_trace_has_what_the_guest_used_in_its_order(cache, chain, layer):
    one = Exporter(Options(cache.url), chain(1, 2, 3, 4))
    opened = one.open(f"{layer}/d")
    wait_until(lambda: len(asked(cache)) == 4 and not one.blocks._pending)
    for number in (3, 3, 5, 1):
        guest_read(one, opened, number * SLICE_BYTES + 100, 1000)
        wait_until(lambda wanted=number: wanted in {found for found, _, start in asked(cache) if start})
    assert [number for number, _, start in asked(cache) if start] == [3, 5, 1]


@pytest.mark.parametrize("starts", [[0], []])
def test_what_opening_reads_is_no_part_of_the_trace_but_its_slice_may_be(cache, chain, layer, starts):
    one = Exporter(Options(cache.url), chain(*starts))
    opened = one.open(f"{layer}/d")
    wait_until(lambda: one.blocks._store.get((layer, 31)) is not None)
    assert guest_read(one, opened, 0, 320 * KIB) == BODY[: 320 * KIB]
    assert guest_read(one, opened, MIB, 1000) == BODY[MIB : MIB + 1000]
    wait_until(lambda: any(line["start"] for line in cache.log()))
    assert [line["range"] for line in cache.log() if line["start"]] == ["bytes=0-0"]


def test_half_of_the_memory_is_read_ahead_at_most(cache, chain, layer):
    one = Exporter(Options(cache.url, memory_bytes=8 * MIB), chain(5, 1, 2, 3))
    one.open(f"{layer}/d")
    wait_until(lambda: len(asked(cache)) == 2 and not one.blocks._pending)
    time.sleep(0.3)  # nothing more comes
    assert {number for number, _, _ in asked(cache)} == {5, 1}


def test_a_start_reads_ahead_what_is_not_in_memory_any_more(cache, chain, layer):
    one = Exporter(Options(cache.url), chain(1, 2))
    one.close(one.open(f"{layer}/d"))
    wait_until(lambda: len(asked(cache)) == 2 and not one.blocks._pending)
    opened = one.open(f"{layer}/d")  # all of it is there
    one.blocks._store._recent.clear()
    one.close(one.open(f"{layer}/d"))  # a further connection is no start
    time.sleep(0.3)
    assert len(asked(cache)) == 2
    one.close(opened)
    one.open(f"{layer}/d")
    wait_until(lambda: len(asked(cache)) == 4)
    assert sorted(asked(cache)[2:]) == [(1, 1, False), (2, 1, False)]  # the cache has them


def test_a_slice_on_its_way_is_waited_for_and_asked_for_once(fleet, chain, layer):
    endpoint = fleet.region(HOME).endpoint.removeprefix("http://")
    with delayed(endpoint, 0.4) as far, far_cache(fleet, far) as cold:
        one = Exporter(Options(cold.url), chain(3))
        opened = one.open(f"{layer}/d")
        wait_until(lambda: (layer, 3) in one.blocks._slices)
        assert guest_read(one, opened, 3 * SLICE_BYTES + MIB, 5000) == BODY[3 * SLICE_BYTES + MIB :][:5000]
        wait_until(lambda: not one.blocks._pending)
        assert [size for number, size, _ in asked(cold) if number == 3 and size > 1] == [SLICE_BYTES]
        assert cold.upstream_requests() == 2  # the header's slice, and this one


def test_guests_do_not_wait_for_what_is_read_ahead(fleet, chain, layer, tmp_path):
    endpoint = fleet.region(HOME).endpoint.removeprefix("http://")
    with delayed(endpoint, 1.5) as far, far_cache(fleet, far) as cold:
        cold.get(f"/{HOME}/layers/{layer}.qcow2", 5 * SLICE_BYTES, 5 * SLICE_BYTES)
        one = Exporter(Options(cold.url), chain(1, 2, 3, 4))
        opened = one.open(f"{layer}/d")
        wait_until(lambda: len(one.blocks._slices) == 5)  # four, and the header's
        started = time.monotonic()
        guest_read(one, opened, 5 * SLICE_BYTES, 64 * KIB)
        assert time.monotonic() - started < 0.75
        assert one.blocks._slices  # they were on their way all the while


def test_a_layer_that_is_gone_leaves_the_rest(cache, chain, layer, tmp_path):
    gone = "f" * 32
    layers = [ChainLayer(gone, HOME, 8 * MIB), ChainLayer(layer, HOME, len(BODY))]
    write_chain_file(tmp_path, "d", layers, [(gone, 1), (gone, 2), (gone, 3), (gone, 0), (layer, 4)])
    one = Exporter(Options(cache.url), tmp_path)
    opened = one.open(f"{layer}/d")
    wait_until(lambda: (4, SLICE_BYTES, False) in asked(cache))
    with pytest.raises(NotFound):
        guest_read(one, one.open(f"{gone}/d"), SLICE_BYTES, 10)
    assert guest_read(one, opened, 4 * SLICE_BYTES, 10) == BODY[4 * SLICE_BYTES :][:10]


def test_a_cache_that_comes_up_later_serves_the_guest(fleet, chain, layer):
    with running_cache(fleet, "us-east") as late:
        late.stop()
        options = Options(late.url, deadline_seconds=0.5)
        one = Exporter(options, chain(1, 2, 3))
        opened = one.open(f"{layer}/d")
        wait_until(lambda: not one.blocks._pending)
        late.start()
        assert guest_read(one, opened, 2 * SLICE_BYTES, 10) == BODY[2 * SLICE_BYTES :][:10]


@pytest.mark.qemu
def test_a_real_exporter_reads_ahead_and_refuses_what_is_broken(cache, layer):
    with exporter(cache.url, {"d": [ChainLayer(layer, HOME, len(BODY))]}) as nbd:
        record = json.loads((nbd.chains / "d.json").read_text())
        for starts, code in {"[[]]": 1, f'[["{layer}", 2]]': 0}.items():
            (nbd.chains / "d.json").write_text(json.dumps(record | {"starts": json.loads(starts)}))
            argv = ["qemu-io", "-r", "-f", "raw", "-c", f"read {5 * SLICE_BYTES} 4k", nbd.uri(f"{layer}/d")]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == code, done.stderr
        wait_until(lambda: (2, SLICE_BYTES, False) in asked(cache))
        assert "chain file of disk d: starts: [] is not" in nbd.log.read_text()


def far_cache(fleet, far: str):
    """An empty cache that reaches the layer's region through `far`."""
    regions = tuple(
        one.model_copy(update={"endpoint": f"http://{far}"} if one.name == HOME else {}) for one in fleet.regions
    )
    return running_cache(fleet.model_copy(update={"regions": regions}), "us-east")
