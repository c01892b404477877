"""The best set of merges under a budget. One choice per disk, several scarce resources: a knapsack.

Small fleets are solved exactly (branch and bound). Large ones by prices: each scarce resource gets a price
(Lagrange multiplier), every disk takes what is best at these prices, prices move until the budget holds; what is left
over is filled by value per price. The same prices give an upper bound, so a plan knows how far from the best it may be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasks.plan.policy import Budget
from tasks.plan.steps import Cost

Array = NDArray[np.float64]
EXACT_NODES = 20_000  # of the search tree; beyond it prices decide
EXACT_GROUPS = 200  # disks; beyond it the tree is not even tried
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
    found, prices = _by_prices(problem)
    if problem.limits.size and problem.groups <= EXACT_GROUPS and found.value < found.bound * (1 - 1e-12):
        found = _Exact(problem, found, prices).solve()
    return found


@dataclass(frozen=True, slots=True)
class _Problem:
    """Choices flattened to rows, group by group. Only scarce resources are kept.

    Amounts are whole numbers (bytes, actions, 1e-9 dollars) held as floats, so that sums and limits compare exactly.
    """

    start: NDArray[np.int64]  # first row of each group, and the end
    owner: NDArray[np.int64]  # group of each row
    values: Array  # -inf: alone over a limit
    amounts: Array  # rows x resources
    limits: Array

    @property
    def groups(self) -> int:
        return len(self.start) - 1

    @property
    def shares(self) -> Array:
        """Amounts as shares of their limits."""
        return np.asarray(self.amounts / np.maximum(self.limits, 1.0))

    def rows(self, group: int) -> range:
        return range(int(self.start[group]), int(self.start[group + 1]))


def amounts(cost: Cost) -> dict[str, int]:
    """What one action takes of each resource, in whole units."""
    taken = {
        "actions": 1,
        "read_bytes": sum(cost.read_bytes.values()),
        "write_bytes": sum(cost.write_bytes.values()),
        "egress_usd": round(cost.egress_usd * 1e9),
    }
    taken |= {f"region_read_bytes:{region}": count for region, count in cost.read_bytes.items()}
    return taken | {f"region_write_bytes:{region}": count for region, count in cost.write_bytes.items()}


def _limit(name: str, budget: Budget) -> float:
    if name == "egress_usd":
        return float(round(budget.egress_usd * 1e9))
    return float(getattr(budget, name.partition(":")[0]))


def _problem(groups: Sequence[Sequence[Choice]], budget: Budget) -> _Problem:
    taken = [amounts(choice.cost) for group in groups for choice in group]
    names = sorted({name for row in taken for name in row})
    table = np.array([[row.get(name, 0) for name in names] for row in taken], np.float64)
    table = table.reshape(len(taken), len(names))
    limits = np.array([_limit(name, budget) for name in names], np.float64)
    values = np.array([choice.value for group in groups for choice in group], np.float64)
    values = np.where((table > limits).any(axis=1), -np.inf, values)
    start = np.concatenate(([0], np.cumsum([len(group) for group in groups]))).astype(np.int64)
    owner = np.repeat(np.arange(len(groups)), np.diff(start))
    worst = np.zeros((len(groups), len(names)))
    np.maximum.at(worst, owner, np.where(np.isfinite(values)[:, None], table, 0.0))
    scarce = worst.sum(axis=0) > limits
    return _Problem(start, owner, values, table[:, scarce], limits[scarce])


def _best_at(problem: _Problem, reduced: Array) -> NDArray[np.int64]:
    """Per group the row of the greatest reduced value, or -1 if none is above zero."""
    picks = np.full(problem.groups, -1, np.int64)
    order = np.lexsort((-np.arange(len(reduced)), reduced, problem.owner))  # the last of a group is best, first wins
    last = np.flatnonzero(np.diff(np.append(problem.owner[order], problem.groups)))
    best = order[last]
    good = reduced[best] > 0
    picks[problem.owner[best][good]] = best[good]
    return picks


def _by_prices(problem: _Problem) -> tuple[Chosen, Array]:
    """Subgradient descent on the prices; the best plan on the way, the lowest bound, and its prices."""
    shares = problem.shares
    prices = best_prices = np.zeros(problem.limits.size)
    best, value, bound = np.full(problem.groups, -1, np.int64), 0.0, np.inf
    for turn in range(ROUNDS):
        reduced = problem.values - shares @ prices
        picks = _best_at(problem, reduced)
        rows = picks[picks >= 0]
        dual = float(reduced[rows].sum() + prices.sum())
        if dual < bound:
            bound, best_prices = dual, prices
        fitted = _fit(problem, picks, shares @ (prices + 1e-9))
        gained = float(problem.values[fitted[fitted >= 0]].sum())
        if gained > value:
            best, value = fitted, gained
        excess = shares[rows].sum(axis=0) - 1.0
        norm = float(excess @ excess)
        if bound - value <= 1e-12 * max(1.0, bound) or norm == 0:
            break
        prices = np.maximum(0.0, prices + 1.2 * 0.97**turn * (dual - value) / norm * excess)
    return _chosen(problem, best, max(bound, value)), best_prices


def _fit(problem: _Problem, picks: NDArray[np.int64], paid: Array) -> NDArray[np.int64]:
    """Drop the worst picks until the budget holds, then add whatever still fits, best first."""
    result = picks.copy()
    used = problem.amounts[result[result >= 0]].sum(axis=0)
    ratio = problem.values / np.maximum(paid, 1e-12)
    if (used > problem.limits).any():
        taken = np.flatnonzero(result >= 0)
        for group in taken[np.argsort(ratio[result[taken]], kind="stable")]:
            used = used - problem.amounts[result[group]]
            result[group] = -1
            if (used <= problem.limits).all():
                break
    return _fill(problem, result, used, ratio)


def _fill(problem: _Problem, result: NDArray[np.int64], used: Array, ratio: Array) -> NDArray[np.int64]:
    room = problem.limits - used
    waiting = (result[problem.owner] < 0) & (problem.values > 0) & (problem.amounts <= room).all(axis=1)
    rows = np.flatnonzero(waiting)
    for row in rows[np.argsort(-ratio[rows], kind="stable")]:
        if result[problem.owner[row]] < 0 and (problem.amounts[row] <= room).all():
            result[problem.owner[row]] = row
            room = room - problem.amounts[row]
    return result


def _chosen(problem: _Problem, rows: NDArray[np.int64], bound: float) -> Chosen:
    picks = tuple(int(row - problem.start[group]) if row >= 0 else -1 for group, row in enumerate(rows))
    return Chosen(picks, float(problem.values[rows[rows >= 0]].sum()), bound)


class _Exact:
    """Depth first over the groups; a branch whose bound at the best prices cannot beat the best plan is cut."""

    def __init__(self, problem: _Problem, start: Chosen, prices: Array) -> None:
        self.problem = problem
        self.found = start
        self.value = start.value
        self.best: list[int] | None = None
        self.nodes = 0
        self.per_unit = prices / np.maximum(problem.limits, 1.0)
        reduced = problem.values - problem.amounts @ self.per_unit
        tops = [max((0.0, *(float(reduced[row]) for row in problem.rows(g)))) for g in range(problem.groups)]
        self.order = sorted(range(problem.groups), key=lambda g: -tops[g])
        self.rest = [*np.cumsum([tops[g] for g in reversed(self.order)])[::-1].tolist(), 0.0]

    def solve(self) -> Chosen:
        """The best plan; the start with its bound when the tree is too large to be searched."""
        self._visit(0, 0.0, self.problem.limits.copy(), [-1] * self.problem.groups)
        rows = self.best
        bound = self.found.bound if self.nodes > EXACT_NODES else self.value
        return replace(self.found, bound=bound) if rows is None else _chosen(self.problem, np.array(rows), bound)

    def _visit(self, depth: int, value: float, room: Array, picks: list[int]) -> None:
        self.nodes += 1
        if value > self.value + 1e-12:
            self.value, self.best = value, picks.copy()
        most = value + self.rest[depth] + float(room @ self.per_unit)
        if depth == len(self.order) or self.nodes > EXACT_NODES or most <= self.value + 1e-12:
            return
        group, problem = self.order[depth], self.problem
        for row in sorted(problem.rows(group), key=lambda k: -problem.values[k]):
            if problem.values[row] > 0 and (problem.amounts[row] <= room).all():
                picks[group] = row
                self._visit(depth + 1, value + float(problem.values[row]), room - problem.amounts[row], picks)
                picks[group] = -1
        self._visit(depth + 1, value, room, picks)
