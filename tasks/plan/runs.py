"""The best set of runs of one chain: dynamic programming over its private part.

    best[k] = the most dollars that runs inside layers k..n-1 can bring
            = max(best[k+1], max over j of value[k, j] + best[j+1])

Layers outside every run stay as they are. O(n^2) after the scores. `charge` are dollars per byte moved that a scarce
budget adds: the fleet's choice raises it step by step, which gives each chain its ladder of smaller and smaller sets.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.plan.score import Array, RunScores


@dataclass(frozen=True, slots=True)
class Span:
    """A run as positions in the chain: layers `top..bottom`, tip = 0."""

    top: int
    bottom: int

    @property
    def removed(self) -> int:
        """Layers fewer after the merge."""
        return self.bottom - self.top


def best_runs(value: Array, allowed: NDArray[np.bool_]) -> tuple[Span, ...]:
    """Disjoint runs of the greatest total value, top to bottom; empty when nothing is worth more than zero."""
    n = len(value)
    best = np.zeros(n + 1)
    take = np.full(n, -1)
    gains = np.where(allowed & np.triu(np.ones((n, n), bool), 1), value, -np.inf)
    for k in range(n - 2, -1, -1):
        totals = gains[k, k + 1 :] + best[k + 2 :]
        j = int(np.argmax(totals))
        best[k] = best[k + 1]
        if totals[j] > best[k + 1]:
            best[k], take[k] = totals[j], k + 1 + j
    return tuple(_walk(take))


def _walk(take: NDArray[np.int_]) -> Iterator[Span]:
    k = 0
    while k < len(take):
        if take[k] > 0:
            yield Span(k, int(take[k]))
            k = int(take[k]) + 1
        else:
            k += 1


CHARGES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # dollars per 10^9 bytes moved, on top of their own price


def ladder(scores: RunScores, allowed: NDArray[np.bool_], asked: bool = False) -> tuple[tuple[Span, ...], ...]:
    """The best sets at rising charges for moved bytes; the first is what an unlimited budget would take.

    When a person `asked` for the merge, the run that removes most layers is offered even if it does not pay.
    """
    sets: dict[tuple[Span, ...], None] = {}
    if asked and allowed.any():
        n = len(allowed)
        removed = np.where(allowed, np.arange(n)[None, :] - np.arange(n)[:, None], 0)
        top, bottom = np.unravel_index(int(np.argmax(removed)), removed.shape)
        sets[(Span(int(top), int(bottom)),)] = None
    for charge in CHARGES:
        found = best_runs(scores.net_usd - charge * scores.moved / 1e9, allowed)
        if found:
            sets[found] = None
    return tuple(sets)
