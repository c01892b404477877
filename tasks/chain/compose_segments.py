"""Which ranges of the source objects are worth a server-side copy, dead bytes included. Pure; counts are clusters.

A copied range must have at least 5 MiB, so it often takes dead clusters along; policy bounds their sum. Candidates form
a tree: live runs of a source joined over ever larger gaps, up to the whole object.

    clusters      ####.##....###########.........####
    gap <= 1      [------]   [---------]         [--]
    gap <= 4      [--------------------]         [--]
    whole         [---------------------------------]

Wanted: disjoint nodes of the tree with the most live clusters whose dead ones fit the budget. A price per dead cluster
turns this into an independent choice at each node (node or its children); bisection finds the price, and what is left
of the budget is spent on the best of the nodes that one price lower would have taken.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
_FAR = 1 << 40  # clusters between two sources: no gap that is ever closed
_ROUNDS = 40


@dataclass(frozen=True, slots=True)
class Segment:
    """Clusters `[start, end)` of a source, `live` of them needed."""

    source: int
    start: int
    end: int
    live: int


@dataclass(frozen=True, slots=True)
class _Level:
    """Nodes at one gap threshold, all sources in a row. `first[i]`: the first child of node i in the level below."""

    start: I64
    end: I64
    live: I64
    first: I64

    @property
    def span(self) -> I64:
        return self.end - self.start


def choose_segments(live: list[I64], min_clusters: int, dead_budget: int, part_price: float) -> list[Segment]:
    """`live`: per source the sorted live clusters (empty: nothing may be copied). `part_price`: live clusters that a
    part must save to be worth its request. Sorted by source and place."""
    levels = _levels(live)
    if levels is None:
        return []
    low, high = 0.0, float(len(np.concatenate(live)) + 1)
    best = _pick(levels, min_clusters, high, part_price)
    over = _pick(levels, min_clusters, low, part_price)
    if _dead(over) <= dead_budget:
        return _segments(over)
    for _ in range(_ROUNDS):
        price = (low * high) ** 0.5 if low > 0 else high / 1024
        found = _pick(levels, min_clusters, price, part_price)
        if _dead(found) <= dead_budget:
            best, high = found, price
        else:
            over, low = found, price
        if low > 0 and high / low < 1.0001:
            break
    return _segments(_spend_rest(best, over, dead_budget))


def _levels(live: list[I64]) -> list[_Level] | None:
    parts = [clusters + number * _FAR for number, clusters in enumerate(live) if len(clusters)]
    if not parts:
        return None
    at = np.concatenate(parts)
    first = np.flatnonzero(np.concatenate(([True], at[1:] != at[:-1] + 1)))
    end = at[np.append(first[1:], len(at)) - 1] + 1
    levels = [_Level(at[first], end, end - at[first], np.arange(len(first), dtype=np.int64))]
    widest = int((levels[0].start[1:] - levels[0].end[:-1]).max(initial=0, where=_near(levels[0])))
    gap = 1
    while gap < 2 * widest:
        levels.append(_join(levels[-1], gap))
        gap *= 2
    return levels


def _near(level: _Level) -> npt.NDArray[np.bool_]:
    return (level.start[1:] - level.end[:-1]) < _FAR // 2


def _join(below: _Level, gap: int) -> _Level:
    """Neighbours at most `gap` apart become one node."""
    apart = below.start[1:] - below.end[:-1] > gap
    first = np.flatnonzero(np.concatenate(([True], apart)))
    last = np.append(first[1:], len(below.start)) - 1
    return _Level(below.start[first], below.end[last], np.add.reduceat(below.live, first), first)


def _pick(levels: list[_Level], min_clusters: int, price: float, part_price: float) -> I64:
    """The best nodes at this price per dead cluster: rows (start, end, live), in order."""
    values: list[tuple[F64, F64]] = []
    bests: list[F64] = []
    for number, level in enumerate(levels):
        dead = level.span - level.live
        value = np.where(level.span >= min_clusters, level.live - price * dead - part_price, -np.inf)
        children = np.zeros(len(value)) if number == 0 else np.add.reduceat(bests[-1], level.first)
        values.append((value, children))
        bests.append(np.maximum(np.maximum(value, children), 0.0))
    rows = []
    active = np.ones(len(levels[-1].start), np.bool_)
    for number in range(len(levels) - 1, -1, -1):
        level, (value, children) = levels[number], values[number]
        chosen = active & (value > 0) & (value >= children)
        rows.append(np.stack((level.start[chosen], level.end[chosen], level.live[chosen]), axis=1))
        if number:
            count = np.diff(np.append(level.first, len(levels[number - 1].start)))
            active = np.repeat(active & ~chosen, count)
    found = np.concatenate(rows)
    return found[np.argsort(found[:, 0], kind="stable")]


def _dead(nodes: I64) -> int:
    return int((nodes[:, 1] - nodes[:, 0] - nodes[:, 2]).sum())


def _spend_rest(within: I64, over: I64, budget: int) -> I64:
    """Replace chosen nodes by larger ones that hold them while the budget lasts, best gain per dead cluster first."""
    left = budget - _dead(within)
    owner = np.searchsorted(over[:, 0], within[:, 0], side="right") - 1
    inside = (owner >= 0) & (within[:, 1] <= over[np.maximum(owner, 0), 1])
    has = np.zeros((len(over), 2), np.int64)  # live and dead clusters of the chosen nodes inside
    np.add.at(has[:, 0], owner[inside], within[inside, 2])
    np.add.at(has[:, 1], owner[inside], (within[:, 1] - within[:, 0] - within[:, 2])[inside])
    gain = over[:, 2] - has[:, 0]
    cost = over[:, 1] - over[:, 0] - over[:, 2] - has[:, 1]
    taken = np.zeros(len(over), np.bool_)
    for index in np.argsort(-gain / np.maximum(cost, 1), kind="stable"):
        if gain[index] > 0 and cost[index] <= left:
            taken[index] = True
            left -= int(cost[index])
    stays = ~(inside & taken[np.maximum(owner, 0)])
    found = np.concatenate((within[stays], over[taken]))
    return found[np.argsort(found[:, 0], kind="stable")]


def _segments(nodes: I64) -> list[Segment]:
    found = []
    for start, end, live in nodes.tolist():
        source, at = divmod(start, _FAR)
        found.append(Segment(source, at, end - source * _FAR, live))
    return found
