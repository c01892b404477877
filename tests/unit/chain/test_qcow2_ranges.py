"""Which requests are made for tables, and finding the bytes again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.chain import qcow2_reasons as why
from tasks.chain.qcow2_ranges import GAP_BYTES, MAX_REQUEST_BYTES, Blocks, ByteRange, coalesce_tables, cut
from tasks.errors import Refused
from tasks.units import KIB, MIB


def offsets(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_adjacent_tables_are_one_request() -> None:
    assert coalesce_tables(offsets(65536, 131072), 65536) == [ByteRange(65536, 131072)]


def test_a_gap_of_one_default_cluster_is_not_read() -> None:
    assert len(coalesce_tables(offsets(65536, 196608), 65536)) == 2


def test_small_gaps_are_read() -> None:
    assert coalesce_tables(offsets(4096, 4096 + 512 + GAP_BYTES), 512) == [ByteRange(4096, 512 + GAP_BYTES + 512)]


def test_long_runs_are_cut() -> None:
    tables = np.arange(0, 20 * MIB, 64 * KIB, dtype=np.int64)
    found = coalesce_tables(tables, 64 * KIB)
    assert [part.length for part in found] == [8 * MIB, 8 * MIB, 4 * MIB]


@given(st.lists(st.integers(0, 400), min_size=1, max_size=60), st.sampled_from([512, 4096, 65536]))
def test_every_table_is_whole_in_one_request(numbers: list[int], size: int) -> None:
    at = np.array(numbers, np.int64) * size
    found = coalesce_tables(at, size)
    for offset in at.tolist():
        assert sum(part.start <= offset and offset + size <= part.end for part in found) == 1
    assert all(part.length <= MAX_REQUEST_BYTES + GAP_BYTES + size for part in found)
    assert sum(part.length for part in found) <= len(set(numbers)) * (size + GAP_BYTES)


def test_cut() -> None:
    assert cut(5, 17 * MIB) == [
        ByteRange(5, 8 * MIB),
        ByteRange(5 + 8 * MIB, 8 * MIB),
        ByteRange(5 + 16 * MIB, MIB),
    ]
    assert cut(0, 0) == []


@given(st.data())
def test_blocks_give_back_what_was_fed(data: st.DataObject) -> None:
    image = bytes(range(256)) * 4
    starts = sorted(data.draw(st.sets(st.integers(0, 900), max_size=5)))
    ends = [*starts[1:], 1000][: len(starts)]
    ranges = [ByteRange(a, data.draw(st.integers(1, b - a))) for a, b in zip(starts, ends, strict=True)]
    blocks = Blocks(ranges, [image[part.start : part.end] for part in ranges])
    known = {byte for part in ranges for byte in range(part.start, part.end)}
    start, length = data.draw(st.integers(0, 1000)), data.draw(st.integers(1, 50))
    expected = image[start : start + length] if known.issuperset(range(start, start + length)) else None
    assert blocks.read(start, length) == expected


def test_a_short_block_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        Blocks([ByteRange(0, 10)], [b"123"])
    assert caught.value.reason == why.SHORT_READ


def test_tables_are_found_in_their_blocks() -> None:
    blocks = Blocks([ByteRange(512, 1024), ByteRange(4096, 512)], [b"a" * 512 + b"b" * 512, b"c" * 512])
    rows = np.zeros((4, 512), np.uint8)
    found = blocks.tables(offsets(4096, 1024, 2048, 512), 512, rows)
    assert found.tolist() == [True, True, False, True]
    assert [chr(row[0]) for row in rows[found]] == ["c", "b", "a"]
