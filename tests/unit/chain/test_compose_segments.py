"""Copied ranges: within the budget, and close to the best choice."""

import random

import numpy as np
import pytest

from tasks.chain.compose_segments import Segment, choose_segments


def test_whole_live_object_is_one_segment() -> None:
    assert choose_segments([np.arange(100)], 10, 0, 1.0) == [Segment(0, 0, 100, 100)]


def test_small_runs_are_not_copied_alone() -> None:
    assert choose_segments([np.arange(5), np.arange(9)], 10, 100, 1.0) == []


def test_gaps_are_closed_within_the_budget() -> None:
    live = np.concatenate((np.arange(0, 8), np.arange(10, 18)))
    assert choose_segments([live], 10, 2, 1.0) == [Segment(0, 0, 18, 16)]
    assert choose_segments([live], 10, 1, 1.0) == []


def test_equal_candidates_are_taken_until_the_budget_is_spent() -> None:
    one = np.concatenate((np.arange(0, 9), np.arange(10, 20)))
    found = choose_segments([one, one, one, one], 15, 2, 1.0)
    assert len(found) == 2


@pytest.mark.parametrize("seed", range(60))
def test_random_sources_against_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    sources = [np.flatnonzero(np.array([rng.random() < 0.7 for _ in range(24)])) for _ in range(2)]
    budget = rng.randrange(0, 12)
    found = choose_segments(sources, 4, budget, 0.0)
    assert sum(s.end - s.start - s.live for s in found) <= budget
    last = (-1, 0)
    for s in found:
        assert (s.source, s.start) >= last
        assert s.end - s.start >= 4
        assert s.live == int(((sources[s.source] >= s.start) & (sources[s.source] < s.end)).sum())
        last = (s.source, s.end)
    got = sum(s.live for s in found)
    best = _brute_force(sources, 4, budget)
    assert got >= 0.6 * best - 4, (got, best)


def _brute_force(sources: list[np.ndarray], least: int, budget: int) -> int:
    """Most live clusters in disjoint ranges whose dead clusters fit, by dynamic programming over places."""
    best = {0: 0}
    for live in sources:
        held = np.zeros(25, int)
        held[live] = 1
        total = np.concatenate(([0], np.cumsum(held)))
        states: list[dict[int, int]] = [dict(best)] + [{} for _ in range(24)]
        for at in range(24):
            for dead, gain in list(states[at].items()):
                states[at + 1][dead] = max(states[at + 1].get(dead, -1), gain)
                for end in range(at + least, 25):
                    alive = int(total[end] - total[at])
                    used = dead + end - at - alive
                    if used <= budget:
                        states[end][used] = max(states[end].get(used, -1), gain + alive)
        best = states[24]
    return max(best.values())
