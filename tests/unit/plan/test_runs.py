"""The best set of runs, against all sets."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tasks.plan.policy import Policy
from tasks.plan.runs import Span, best_runs, ladder
from tasks.plan.score import score_runs
from tests.support.plans import PRICES, chain, chains, layer, long_chain

VALUES = st.integers(1, 7).flatmap(
    lambda n: st.tuples(
        npst.arrays(np.float64, (n, n), elements=st.integers(-20, 40).map(float)), npst.arrays(np.bool_, (n, n))
    )
)


@given(VALUES)
def test_equals_brute_force(case: tuple[np.ndarray, np.ndarray]) -> None:
    value, allowed = case
    n = len(value)
    spans = [(i, j) for i in range(n) for j in range(i + 1, n) if allowed[i, j]]
    best = 0.0
    for size in range(n // 2 + 1):
        for picked in itertools.combinations(spans, size):
            if all(a[1] < b[0] for a, b in itertools.pairwise(sorted(picked))):
                best = max(best, sum(value[span] for span in picked))
    found = best_runs(value, allowed)
    assert sum(value[span.top, span.bottom] for span in found) == best
    assert all(allowed[span.top, span.bottom] and span.top < span.bottom for span in found)
    assert all(a.bottom < b.top for a, b in itertools.pairwise(found))


def test_nothing_is_worth_more_than_nothing() -> None:
    value = -np.ones((4, 4))
    assert best_runs(value, np.ones((4, 4), bool)) == ()


def test_two_runs_around_a_layer_that_is_dear_to_move() -> None:
    layers = [layer(k, mib=20_000 if k == 4 else 8) for k in range(10)]
    made = chain([*layers, layer(10)], steals=())
    scores = score_runs(made, Policy(), PRICES)
    allowed = np.triu(np.ones((10, 10), bool), 1)
    sets = ladder(scores, allowed)
    assert Span(4, 9) in {span for spans in sets for span in spans}  # as a top it does not move
    assert all(not (span.top < 4 <= span.bottom) for span in sets[-1])


@given(chains(max_size=9))
def test_scores_of_every_run_equal_its_own_sums(made: object) -> None:
    scores = score_runs(made, Policy(), PRICES)  # type: ignore[arg-type]
    private = made.private  # type: ignore[attr-defined]
    for i, j in itertools.combinations(range(len(private)), 2):
        inside = [steal for steal in made.steals if i <= steal.upper and steal.lower <= j]  # type: ignore[attr-defined]
        stolen = sum(steal.bytes for steal in inside)
        lower = private[i + 1 : j + 1]
        assert scores.freed[i, j] == stolen + sum(item.metadata_bytes for item in lower)
        assert scores.moved[i, j] == sum(item.stored_bytes for item in lower) - stolen
        assert scores.moved[i, j] >= 0
        rtt = sum(PRICES.rtt_seconds(item.region, "us") for item in lower)
        assert scores.start_seconds[i, j] == pytest.approx(3 * rtt)


def test_longer_runs_save_more_memory_and_starts() -> None:
    scores = score_runs(long_chain(12), Policy(), PRICES)
    assert (np.diff(scores.memory[0, 1:11]) > 0).all()
    assert (np.diff(scores.start_seconds[0, 1:11]) > 0).all()


def test_lookups_count_the_requests_that_pass() -> None:
    layers = [layer(k, requests_per_day=float(10**k)) for k in range(4)]
    scores = score_runs(chain(layers), Policy(), PRICES)
    assert scores.lookups[0, 1] == 1110  # served by 1, 2 and 3: each one lookup fewer
    assert scores.lookups[0, 2] == 1110 + 1100
    assert scores.lookups[1, 2] == 1100


def test_the_charge_makes_sets_smaller() -> None:
    made = chain([layer(k, mib=20 * k * k) for k in range(12)])
    scores = score_runs(made, Policy(), PRICES)
    sets = ladder(scores, np.triu(np.ones((11, 11), bool), 1))
    moved = [sum(scores.moved[s.top, s.bottom] for s in spans) for spans in sets]
    assert moved == sorted(moved, reverse=True)
    assert len(sets) > 1
