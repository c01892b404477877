"""Extents beside a plan: nothing is lost, nothing is taken for another layer's, nothing impossible is believed."""

import zlib

import pytest

from tasks.chain import extent, run_maps
from tasks.chain.layer import ExtentKind
from tasks.chain.run_maps import Name
from tasks.errors import Permanent

K64 = 65536
ROWS = [
    (0, 4 * K64, ExtentKind.DATA, 8 * K64, 4 * K64),
    (4 * K64, K64, ExtentKind.ZERO, -1, 0),
    (6 * K64, K64, ExtentKind.COMPRESSED, 2 * K64 + 512, 1024),
]
NAMES = [Name("a" * 32, '"e1"'), Name("b" * 32, '"e2"'), Name("c" * 32, '"e3"')]
EXTENTS = [extent.from_rows(ROWS), extent.empty(), extent.from_rows(ROWS[1:])]


def test_what_goes_in_comes_out() -> None:
    body = run_maps.encode(NAMES, EXTENTS)
    assert run_maps.decode(body, NAMES) == EXTENTS
    assert run_maps.encode(NAMES, EXTENTS) == body


def test_layers_without_extents() -> None:
    assert run_maps.decode(run_maps.encode(NAMES[:1], [extent.empty()]), NAMES[:1]) == [extent.empty()]


@pytest.mark.parametrize("names", [NAMES[::-1], NAMES[:2], [*NAMES[:2], Name("c" * 32, '"e4"')]])
def test_of_other_objects(names: list[Name]) -> None:
    with pytest.raises(Permanent, match="not of"):
        run_maps.decode(run_maps.encode(NAMES, EXTENTS), names)


@pytest.mark.parametrize("body", [b"", b"x", zlib.compress(b'{"layers": []}\n'), zlib.compress(b"{}\n")])
def test_malformed(body: bytes) -> None:
    with pytest.raises(Permanent, match="malformed"):
        run_maps.decode(body, NAMES)


def test_cut_short() -> None:
    whole = zlib.decompress(run_maps.encode(NAMES, EXTENTS))
    with pytest.raises(Permanent, match="malformed"):
        run_maps.decode(zlib.compress(whole[:-8]), NAMES)


def test_extents_that_fit() -> None:
    run_maps.check_fits(EXTENTS[0], 16 * K64, 12 * K64, K64)


@pytest.mark.parametrize(
    "row",
    [
        (0, K64, ExtentKind.DATA, 0, K64),  # the header
        (0, K64, ExtentKind.DATA, 4 * K64 + 512, K64),
        (0, K64, ExtentKind.DATA, 12 * K64, K64),  # behind the object's end
        (16 * K64, K64, ExtentKind.ZERO, -1, 0),  # behind the disk's end
        (512, K64, ExtentKind.ZERO, -1, 0),
        (0, 0, ExtentKind.ZERO, -1, 0),
    ],
)
def test_extents_that_cannot_be(row: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(Permanent, match="do not fit"):
        run_maps.check_fits(extent.from_rows([row]), 16 * K64, 12 * K64, K64)


def test_extents_that_overlap() -> None:
    rows = [(0, 2 * K64, ExtentKind.ZERO, -1, 0), (K64, K64, ExtentKind.ZERO, -1, 0)]
    with pytest.raises(Permanent, match="do not fit"):
        run_maps.check_fits(extent.from_rows(rows), 16 * K64, 12 * K64, K64)
