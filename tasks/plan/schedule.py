"""The best set of merges under a budget. One choice per disk, several scarce resources: a knapsack.

Small fleets are solved exactly (branch and bound). Large ones by prices: each scarce resource gets a price
(Lagrange multiplier), every disk takes what is best at these prices, prices move until the budget holds; what is left
over is filled by value per price. The same prices give an upper bound, so a plan knows how far from the best it may be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.plan.policy import Budget
from tasks.plan.steps import Cost

Array = NDArray[np.float64]
EXACT_NODES = 20_000  # of the search tree; beyond it prices decide
ROUNDS = 120


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to serve a disk: what it is worth and what it takes."""

    value: float
    cost: Cost


@dataclass(frozen=True, slots=True)
class Chosen:
    """Per disk the index of its choice, or -1; the value; and what no plan under this budget can exceed."""

    picks: tuple[int, ...]
    value: float
    bound: float


def choose(groups: Sequence[Sequence[Choice]], budget: Budget) -> Chosen:
    """At most one choice per group, never over the budget, of the greatest value."""
    problem = _problem(groups, budget)
    greedy = _by_prices(problem)
    if problem.limits.size == 0 or greedy.value >= greedy.bound - 1e-12:
        return greedy
    exact = _Exact(problem, greedy).solve()
    return exact if exact is not None and exact.value >= greedy.value else greedy


@dataclass(frozen=True, slots=True)
class _Problem:
    """Choices flattened. `weights[k]` are shares of the limits (1.0 = the whole budget); only scarce ones are kept."""

    start: NDArray[np.int64]  # first row of each group, and the end
    values: Array
    weights: Array  # rows x scarce resources
    limits: Array  # ones

    @property
    def groups(self) -> int:
        return len(self.start) - 1

    def rows(self, group: int) -> range:
        return range(int(self.start[group]), int(self.start[group + 1]))


def spent(cost: Cost, budget: Budget) -> dict[str, float]:
    """Shares of every budget that the cost takes; above 1.0 is too much."""
    shares = {
        "actions": 1 / budget.actions if budget.actions else np.inf,
        "read_bytes": _share(sum(cost.read_bytes.values()), budget.read_bytes),
        "write_bytes": _share(sum(cost.write_bytes.values()), budget.write_bytes),
        "egress_usd": _share(cost.egress_usd, budget.egress_usd),
    }
    for region, count in cost.read_bytes.items():
        shares[f"region_read_bytes:{region}"] = _share(count, budget.region_read_bytes)
    for region, count in cost.write_bytes.items():
        shares[f"region_write_bytes:{region}"] = _share(count, budget.region_write_bytes)
    return shares


def _share(amount: float, limit: float) -> float:
    if amount <= 0:
        return 0.0
    return amount / limit if limit > 0 else np.inf


def _problem(groups: Sequence[Sequence[Choice]], budget: Budget) -> _Problem:
    rows = [spent(choice.cost, budget) for group in groups for choice in group]
    names = sorted({name for row in rows for name in row})
    weights = np.array([[row.get(name, 0.0) for name in names] for row in rows], np.float64).reshape(
        len(rows), len(names)
    )
    values = np.array([choice.value for group in groups for choice in group], np.float64)
    start = np.concatenate(([0], np.cumsum([len(group) for group in groups]))).astype(np.int64)
    values = np.where((weights > 1.0).any(axis=1), -np.inf, values) if len(names) else values
    weights = np.where(np.isfinite(weights), weights, 2.0)
    worst = np.zeros(len(names))
    for group in range(len(groups)):
        if start[group] < start[group + 1]:
            worst += weights[start[group] : start[group + 1]].max(axis=0)
    scarce = worst > 1.0
    return _Problem(start, values, weights[:, scarce], np.ones(int(scarce.sum())))


def _best_at(problem: _Problem, prices: Array) -> NDArray[np.int64]:
    """Per group the row of the greatest reduced value, or -1 if none is above zero."""
    reduced = problem.values - problem.weights @ prices
    picks = np.full(problem.groups, -1, np.int64)
    owner = np.repeat(np.arange(problem.groups), np.diff(problem.start))
    order = np.lexsort((-np.arange(len(reduced)), reduced, owner))  # the last of each owner is its best, first row wins
    last = np.flatnonzero(np.diff(np.append(owner[order], problem.groups)))
    best = order[last]
    good = reduced[best] > 0
    picks[owner[best][good]] = best[good]
    return picks


def _by_prices(problem: _Problem) -> Chosen:
    prices = np.zeros(problem.limits.size)
    best_picks, best_value, bound = np.full(problem.groups, -1, np.int64), 0.0, np.inf
    step = float(np.where(np.isfinite(problem.values), problem.values, 0.0).sum()) or 1.0
    for turn in range(ROUNDS):
        picks = _best_at(problem, prices)
        rows = picks[picks >= 0]
        used = problem.weights[rows].sum(axis=0)
        reduced = float((problem.values[rows] - problem.weights[rows] @ prices).sum()) if rows.size else 0.0
        bound = min(bound, reduced + float(prices.sum()))
        fitted = _fit(problem, picks, prices)
        value = float(problem.values[fitted[fitted >= 0]].sum())
        if value > best_value:
            best_picks, best_value = fitted, value
        if problem.limits.size == 0 or bound - best_value <= 1e-12 * max(1.0, bound):
            break
        excess = used - problem.limits
        norm = float(excess @ excess)
        if norm == 0:
            break
        prices = np.maximum(0.0, prices + min(step, max(bound - best_value, 1e-12) * 1.2) / norm * excess * 0.97**turn)
    return _chosen(problem, best_picks, best_value, bound)


def _fit(problem: _Problem, picks: NDArray[np.int64], prices: Array) -> NDArray[np.int64]:
    """Drop the worst picks until the budget holds, then add whatever still fits, best first."""
    paid = prices + 1e-9
    result = picks.copy()
    used = problem.weights[result[result >= 0]].sum(axis=0)
    if (used > problem.limits).any():
        taken = np.flatnonzero(result >= 0)
        rows = result[taken]
        ratio = problem.values[rows] / np.maximum(problem.weights[rows] @ paid, 1e-12)
        for k in taken[np.argsort(ratio, kind="stable")]:
            used -= problem.weights[result[k]]
            result[k] = -1
            if (used <= problem.limits).all():
                break
    return _fill(problem, result, used, paid)


def _fill(problem: _Problem, result: NDArray[np.int64], used: Array, paid: Array) -> NDArray[np.int64]:
    owner = np.repeat(np.arange(problem.groups), np.diff(problem.start))
    open_rows = np.flatnonzero((result[owner] < 0) & (problem.values > 0))
    ratio = problem.values[open_rows] / np.maximum(problem.weights[open_rows] @ paid, 1e-12)
    for row in open_rows[np.argsort(-ratio, kind="stable")]:
        if result[owner[row]] < 0 and (used + problem.weights[row] <= problem.limits).all():
            result[owner[row]] = row
            used = problem.weights[result[result >= 0]].sum(axis=0)
    return result


def _chosen(problem: _Problem, rows: NDArray[np.int64], value: float, bound: float) -> Chosen:
    picks = tuple(int(row - problem.start[group]) if row >= 0 else -1 for group, row in enumerate(rows))
    return Chosen(picks, value, max(bound, value))


class _Exact:
    """Depth first over the groups, greatest value first; a branch that cannot beat the best is cut."""

    def __init__(self, problem: _Problem, start: Chosen) -> None:
        self.problem = problem
        self.best_value = start.value
        self.best: list[int] | None = None
        self.nodes = 0
        tops = [max((problem.values[row] for row in problem.rows(g)), default=0.0) for g in range(problem.groups)]
        self.order = sorted(range(problem.groups), key=lambda g: -tops[g])
        sums = np.cumsum([max(0.0, float(tops[g])) for g in reversed(self.order)])[::-1]
        self.rest = [*sums.tolist(), 0.0]

    def solve(self) -> Chosen | None:
        """The best plan, or None when nothing beats the start or the tree is too large."""
        self._visit(0, 0.0, np.zeros(self.problem.limits.size), [-1] * self.problem.groups)
        if self.best is None or self.nodes > EXACT_NODES:
            return None
        return _chosen(self.problem, np.array(self.best, np.int64), self.best_value, self.best_value)

    def _visit(self, depth: int, value: float, used: Array, picks: list[int]) -> None:
        self.nodes += 1
        if value > self.best_value + 1e-12:
            self.best_value, self.best = value, picks.copy()
        if depth == len(self.order) or self.nodes > EXACT_NODES or value + self.rest[depth] <= self.best_value + 1e-12:
            return
        group = self.order[depth]
        for row in sorted(self.problem.rows(group), key=lambda k: -self.problem.values[k]):
            after = used + self.problem.weights[row]
            if self.problem.values[row] > 0 and (after <= self.problem.limits).all():
                picks[group] = row
                self._visit(depth + 1, value + float(self.problem.values[row]), after, picks)
                picks[group] = -1
        self._visit(depth + 1, value, used, picks)
