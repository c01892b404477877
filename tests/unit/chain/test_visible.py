"""The resolved view equals a byte-by-byte model."""

import random

import numpy as np
import pytest

from tasks.chain import extent
from tasks.chain.layer import ExtentKind
from tasks.chain.visible import NOBODY, LayerView, resolve

UNIT = 4


def test_a_short_middle_layer_hides_what_is_below() -> None:
    top = LayerView(extent.empty(), 64)
    middle = LayerView(extent.from_rows([(0, 16, ExtentKind.DATA, 100, 16)]), 48)
    bottom = LayerView(extent.from_rows([(0, 64, ExtentKind.DATA, 200, 64)]), 64)
    view = resolve([top, middle, bottom])
    rows = list(zip(view.start, view.length, view.owner, view.kind, view.host_offset, strict=True))
    assert rows == [
        (0, 16, 1, ExtentKind.DATA, 100),
        (16, 32, 2, ExtentKind.DATA, 216),
        (48, 16, 1, ExtentKind.ZERO, -1),
    ]


@pytest.mark.parametrize("seed", range(30))
def test_random_runs(seed: int) -> None:
    rng = random.Random(seed)
    run = [_random_layer(rng) for _ in range(rng.randrange(1, 6))]
    view = resolve(run)
    assert view.start[0] == 0
    assert np.array_equal(view.start[1:], (view.start + view.length)[:-1])
    for start, length, owner, kind, host in zip(
        view.start, view.length, view.owner, view.kind, view.host_offset, strict=True
    ):
        for byte in (start, start + length - 1):
            expected_owner, expected_kind, expected_host = _model(run, int(byte))
            assert (owner, kind) == (expected_owner, expected_kind)
            if kind == ExtentKind.DATA and owner != NOBODY:
                assert host + byte - start == expected_host


def _random_layer(rng: random.Random) -> LayerView:
    size = rng.randrange(8, 40) * UNIT
    rows = []
    at = 0
    while at < size:
        length = rng.randrange(1, 6) * UNIT
        kind = rng.choice([None, ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.ZERO_ALLOCATED])
        if kind is not None:
            host = -1 if kind == ExtentKind.ZERO else 1000 + at * 3
            rows.append((at, length, kind, host, 0 if kind == ExtentKind.ZERO else length))
        at += length
    return LayerView(extent.from_rows(rows), size)


def _model(run: list[LayerView], byte: int) -> tuple[int, int, int]:
    for number, layer in enumerate(run):
        if byte >= layer.virtual_size:
            return number, ExtentKind.ZERO, -1
        for start, length, kind, host, _ in layer.extents.rows():
            if start <= byte < start + length:
                return number, kind, host + byte - start
    return NOBODY, ExtentKind.ZERO, -1
