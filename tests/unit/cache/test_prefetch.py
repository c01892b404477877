"""A chain's metadata is in memory when it is opened, also after months and many other chains."""

import json
import os
import secrets
import struct
import time
from pathlib import Path

import pytest

from tasks.cache.nbd.blocks import BlockStore, Layer
from tasks.cache.nbd.exporter import Exporter
from tasks.cache.nbd.reader import BlockReader, Options
from tasks.errors import Permanent
from tasks.units import KIB, MIB
from tests.support.bad_http import Origin, running_origin
from tests.support.cache_server import wait_until

HEADER = struct.pack(">4sIQIIQIIQQI", b"QFI\xfb", 3, 0, 0, 16, 1 << 30, 0, 2, 192 * KIB, 64 * KIB, 1)
LAYERS = 8


@pytest.fixture
def origin():
    with running_origin() as one:
        yield one


def put(origin: Origin, body: bytes) -> str:
    layer = secrets.token_hex(16)
    origin.bodies[f"/layers/{layer}.qcow2"] = origin.bodies[f"/cached/layers/{layer}.qcow2"] = body
    return layer


def write_chain(origin: Origin, folder: Path, disk: str) -> list[str]:
    ids = [put(origin, HEADER + os.urandom(MIB - len(HEADER))) for _ in range(LAYERS)]
    layers = [{"layer_id": one, "size": MIB} for one in ids]
    (folder / f"{disk}.json").write_text(json.dumps({"layers": layers}))
    return ids


def start(exporter: Exporter, origin: Origin, disk: str, ids: list[str]) -> int:
    """Open as QEMU does, read every header, end. How many requests the headers cost."""
    exports = [exporter.open(f"{layer}/{disk}") for layer in ids]
    before = -1
    while before < len(origin.requests):  # until the prefetch is over
        before = len(origin.requests)
        time.sleep(0.3)
    for export in exports:
        exporter.blocks.read_into(export.layer, 0, memoryview(bytearray(64 * KIB)), reader=export.reader)
    for export in exports:
        exporter.close(export)
    return len(origin.requests) - before


def test_a_later_start_prefetches_what_has_left_the_memory(origin, tmp_path):
    exporter = Exporter(Options(origin.url, memory_bytes=3 * MIB), tmp_path)  # for nine layers' metadata
    old, new = write_chain(origin, tmp_path, "old"), write_chain(origin, tmp_path, "new")
    assert start(exporter, origin, "old", old) == 0
    assert start(exporter, origin, "new", new) == 0
    bulk = put(origin, os.urandom(8 * MIB))
    exporter.blocks.read_into(Layer(bulk, "", 8 * MIB), 0, memoryview(bytearray(6 * MIB)))
    asked = len(origin.requests)
    assert start(exporter, origin, "new", new) == 0
    assert len(origin.requests) == asked  # data did not push it out
    assert start(exporter, origin, "old", old) == 0
    wait_until(lambda: len(origin.requests) > asked)


def test_chains_that_were_opened_later_push_out_older_metadata():
    store = BlockStore(2 * 64 * KIB, 2 * 64 * KIB)
    for number in range(3):
        store.put(("layer", number), b"x", keep=True)
    assert [store.keeps(("layer", number)) for number in range(3)] == [False, True, True]
    assert store.get(("layer", 0)) == b"x"


@pytest.mark.parametrize("url", ["", "cache:8080", "ftp://cache"])
def test_a_url_that_is_none_is_refused_before_a_guest_waits_for_it(url):
    with pytest.raises(Permanent, match="http"):
        BlockReader(Options(url))
