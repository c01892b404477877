"""Ranges to ask for: nothing is missed, little is wasted, no request is too long."""

import random

import numpy as np
import pytest

from tasks.chain import fetches
from tasks.chain.extent import Ranges, ranges_of, subtract


@pytest.mark.parametrize("seed", range(20))
def test_coalesced_ranges_cover_within_the_waste(seed: int) -> None:
    rng = random.Random(seed)
    points = sorted(rng.sample(range(1 << 30), 200))
    wanted = ranges_of(np.array(points[::2]), np.array(points[1::2]))
    got = fetches.coalesce(wanted, waste_share=0.05, max_gap=1 << 23)
    assert subtract(wanted, got).total_bytes == 0
    assert got.total_bytes - wanted.total_bytes <= 0.05 * wanted.total_bytes
    assert len(got) < len(wanted)


def test_smallest_gaps_go_first() -> None:
    wanted = _ranges((0, 1000), (1100, 2000), (2010, 3000))
    assert fetches.coalesce(wanted, waste_share=0.01, max_gap=1000).pairs() == [(0, 1000), (1100, 3000)]
    assert fetches.coalesce(wanted, waste_share=0.01, max_gap=5).pairs() == wanted.pairs()


def test_requests_are_cut_at_the_limit() -> None:
    assert fetches.requests(_ranges((10, 35), (40, 50)), limit=10) == [(10, 10), (20, 10), (30, 5), (40, 10)]
    assert fetches.requests(_ranges()) == []


def test_align_and_clip() -> None:
    assert fetches.align(_ranges((10, 20), (70, 80)), 64).pairs() == [(0, 128)]
    assert fetches.clip(_ranges((10, 20), (70, 80)), 75).pairs() == [(10, 20), (70, 75)]


def _ranges(*pairs: tuple[int, int]) -> Ranges:
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return ranges_of(table[:, 0], table[:, 1])
