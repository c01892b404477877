import json
import struct

import pytest

from tasks.cache.export import ChainLayer, write_chain_file
from tasks.cache.nbd import exporter as module
from tasks.cache.nbd.chain_file import read_chain_file
from tasks.cache.nbd.exporter import Exporter
from tasks.cache.nbd.metadata import metadata_ranges
from tasks.cache.nbd.reader import Options
from tasks.errors import NotFound

LAYER = "a" * 32


def chain_record(**fields) -> str:
    """A chain of one layer of three slices, the last one short."""
    return json.dumps({"layers": [{"layer_id": LAYER, "size": 5 << 20}], **fields})


@pytest.fixture
def exporter(tmp_path) -> Exporter:
    return Exporter(Options("http://127.0.0.1:9"), tmp_path)


def test_a_start_lasts_until_the_disks_last_connection_ends(exporter, monkeypatch):
    first, second = exporter.open(f"{LAYER}/d"), exporter.open(f"{LAYER}/d")
    assert first.reader is second.reader
    exporter.close(first)
    assert exporter.open(f"{LAYER}/d").reader is second.reader
    exporter.close(second)
    exporter.close(second)
    assert exporter.open(f"{LAYER}/d").reader is not second.reader


def test_the_start_is_named_only_in_its_first_minutes(exporter, monkeypatch):
    reader = exporter.open(f"{LAYER}/d").reader
    assert "X-Chainwright-Start: " not in reader.headers()  # so far a QEMU that has only connected again
    reader.reads_header()
    assert "X-Chainwright-Start: " in reader.headers()
    monkeypatch.setattr(module.clock, "monotonic", lambda: reader._until + 1)
    assert reader.headers() == "X-Chainwright-Disk: d\r\n"


def test_a_plain_layer_id_reads_for_nobody(exporter):
    assert exporter.open(LAYER).reader.headers() == ""


@pytest.mark.parametrize(
    "name", ["", "x", LAYER + "/", LAYER + "/..", LAYER + "/a/b", LAYER.upper(), LAYER + "\r\nX: y"]
)
def test_other_export_names_are_refused(exporter, name):
    with pytest.raises(NotFound):
        exporter.open(name)


@pytest.mark.parametrize(
    "record",
    [
        "not json",
        "{}",
        json.dumps({"layers": [{"layer_id": "../x"}]}),
        json.dumps({"layers": [{"layer_id": LAYER, "region": "a/../b"}]}),
        json.dumps({"layers": [{"layer_id": LAYER, "size": -1}]}),
        json.dumps({"layers": [{"layer_id": LAYER, "etag": 5}]}),
        "[" * 100_000,
        chain_record(starts=5),
        chain_record(starts={LAYER: 0}),
        chain_record(starts=[[LAYER, 0]] * 65),
        chain_record(starts=[LAYER]),
        chain_record(starts=[[LAYER]]),
        chain_record(starts=[[LAYER, 0, 0]]),
        chain_record(starts=[["b" * 32, 0]]),
        chain_record(starts=[[LAYER, -1]]),
        chain_record(starts=[[LAYER, 3]]),
        chain_record(starts=[[LAYER, 10**400]]),
        chain_record(starts=[[LAYER, 1.0]]),
        chain_record(starts=[[LAYER, True]]),
        chain_record(starts=[[LAYER, "1"]]),
        chain_record(starts=[[5, 1]]),
    ],
)
def test_a_broken_chain_file_is_named(exporter, tmp_path, record):
    (tmp_path / "d.json").write_text(record)
    with pytest.raises(NotFound, match="chain file of disk d"):
        exporter.open(f"{LAYER}/d")


def test_the_slices_of_starts_are_read_in_their_order(tmp_path):
    (tmp_path / "d.json").write_text(chain_record(starts=[[LAYER, 2], [LAYER, 0]]))
    assert read_chain_file(tmp_path / "d.json").starts == [(LAYER, 2), (LAYER, 0)]


def test_a_chain_file_is_read_as_it_was_written(tmp_path):
    starts = [(LAYER, number) for number in range(100)]
    path = write_chain_file(tmp_path, "d", [ChainLayer(LAYER, "eu-west", 1 << 30, "e")], starts)
    found = read_chain_file(path)
    assert [(one.layer_id, one.region, one.size, one.etag) for one in found.layers] == [
        (LAYER, "eu-west", 1 << 30, "e")
    ]
    assert found.starts == starts[:64]


def test_an_open_that_failed_leaves_no_reader_behind(exporter, tmp_path):
    (tmp_path / "d.json").write_text("not json")
    with pytest.raises(NotFound):
        exporter.open(f"{LAYER}/d")
    (tmp_path / "d.json").unlink()
    first = exporter.open(f"{LAYER}/d")
    exporter.close(first)
    assert exporter.open(f"{LAYER}/d").reader is not first.reader


def header(cluster_bits=16, l1_entries=10, l1_offset=196608, table_offset=65536, clusters=1, magic=b"QFI\xfb") -> bytes:
    return struct.pack(
        ">4sIQIIQIIQQI", magic, 3, 0, 0, cluster_bits, 1 << 30, 0, l1_entries, l1_offset, table_offset, clusters
    )


def test_the_tables_of_a_header_are_found():
    assert metadata_ranges(header(), 1 << 20) == [(196608, 80), (65536, 65536)]


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"QFI",
        header(magic=b"\0\0\0\0"),
        header(cluster_bits=60),
        header(l1_entries=1 << 31, clusters=1 << 31),
        header(l1_offset=1 << 63, table_offset=1 << 63),
        header(l1_offset=(1 << 20) - 79, clusters=0),
    ],
)
def test_hostile_headers_choose_nothing_outside_the_object(head):
    assert metadata_ranges(head, 1 << 20) == []
