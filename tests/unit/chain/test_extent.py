"""The algebra against sets of single bytes."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.chain import extent
from tasks.chain.extent import Extents, Ranges
from tasks.chain.layer import ExtentKind

SPACE = 40


@st.composite
def range_sets(draw: st.DrawFn) -> Ranges:
    pairs = draw(st.lists(st.tuples(st.integers(0, SPACE), st.integers(0, SPACE)), max_size=6))
    starts, ends = ([min(p) for p in pairs], [max(p) for p in pairs])
    return extent.ranges_of(np.array(starts, np.int64), np.array(ends, np.int64))


@st.composite
def extent_sets(draw: st.DrawFn) -> Extents:
    rows, at = [], 0
    for _ in range(draw(st.integers(0, 6))):
        at += draw(st.integers(0, 4))
        length = draw(st.integers(1, 6))
        kind = draw(st.sampled_from(ExtentKind))
        host = -1 if kind == ExtentKind.ZERO else draw(st.integers(0, 10)) * 100 + at
        rows.append((at, length, int(kind), host, 0 if host < 0 else length))
        at += length
    return extent.from_rows(rows)


def covered(ranges: Ranges) -> set[int]:
    return {byte for start, end in ranges.pairs() for byte in range(start, end)}


def by_byte(extents: Extents) -> dict[int, tuple[int, int]]:
    """Guest byte to (kind, host byte); compressed: the host offset of the whole cluster."""
    whole = (ExtentKind.ZERO, ExtentKind.COMPRESSED)
    return {
        start + i: (kind, host if kind in whole else host + i)
        for start, length, kind, host, _ in extents.rows()
        for i in range(length)
    }


def is_canonical(ranges: Ranges) -> bool:
    pairs = ranges.pairs()
    return all(a < b for a, b in pairs) and all(a[1] < b[0] for a, b in itertools.pairwise(pairs))


@given(range_sets(), st.integers(0, SPACE), st.integers(0, SPACE))
def test_cover_is_what_nothing_is_missing_of(held: Ranges, start: int, end: int) -> None:
    wanted = extent.ranges_of(np.array([start], np.int64), np.array([end], np.int64))
    assert held.cover(start, end) == (extent.subtract(wanted, held).total_bytes == 0)


@given(range_sets(), range_sets())
def test_set_operations(left: Ranges, right: Ranges) -> None:
    for operation, expected in (
        (extent.union, covered(left) | covered(right)),
        (extent.intersect, covered(left) & covered(right)),
        (extent.subtract, covered(left) - covered(right)),
    ):
        found = operation(left, right)
        assert covered(found) == expected
        assert is_canonical(found)
        assert found.total_bytes == len(expected)


@given(extent_sets(), range_sets())
def test_select_takes_each_byte_with_its_place(extents: Extents, ranges: Ranges) -> None:
    expected = {byte: place for byte, place in by_byte(extents).items() if byte in covered(ranges)}
    assert by_byte(extent.select(extents, ranges)) == expected


@given(extent_sets(), st.integers(0, SPACE), st.integers(0, SPACE))
def test_clip(extents: Extents, start: int, end: int) -> None:
    expected = {byte: place for byte, place in by_byte(extents).items() if start <= byte < end}
    assert by_byte(extent.clip(extents, start, end)) == expected


@given(extent_sets())
def test_coalesce_keeps_every_byte_and_leaves_no_two_that_could_be_one(extents: Extents) -> None:
    joined = extent.coalesce(extents)
    assert by_byte(joined) == by_byte(extents)
    assert extent.coalesce(joined) == joined
    assert int(joined.host_length.sum()) == int(extents.host_length.sum())
    compressed = ExtentKind.COMPRESSED
    assert (joined.kind == compressed).sum() == (extents.kind == compressed).sum()


@given(extent_sets())
def test_rows_and_back(extents: Extents) -> None:
    assert extent.from_rows(list(extents.rows())) == extents
    assert covered(extent.allocated(extents)) == set(by_byte(extents))


def test_sums() -> None:
    extents = extent.from_rows([(0, 8, 0, 100, 8), (8, 8, 1, -1, 0), (16, 8, 2, 108, 8), (24, 8, 3, 200, 3)])
    assert extents.guest_bytes() == 32
    assert extents.guest_bytes(ExtentKind.ZERO, ExtentKind.ZERO_ALLOCATED) == 16
    assert extents.stored_bytes() == 11
