"""Which layers go: mark what nothing reaches, sweep what stayed unreached for the grace, save what is needed again.

Pure: the caller brings one complete view of all regions (a view with a missing region must never get here) and carries
the verdicts out; ages are by the store's clock. Roots are the heads' tips; a refused layer is a root of its own (an
unreadable layer keeps its whole tree), and so is whatever an unfinished action or a lease names (a pin).

      heads      pins, refused layers
        |            |
        v            v
      keep: everything at or below a root, along the backing links
      the rest ──no tombstone, old enough──> mark ──grace──> sweep (children before parents)
                                                       └─ replacement not cached where it was read: a bounded wait

A layer that waits for its replacement to be warm keeps what it is built on. The wait ends after `warm_wait_hours`,
warm or not: a cache that cannot be reached must not keep dead layers for ever.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tasks.plan.policy import Safety

MIN_GRACE_HOURS = 72.0  # the floor that policy cannot go below without `allow_short_grace`
SHRINK_LIMIT = 0.2  # a listing that lost more than this share since the last one is not believed (hazard 22)


def _none() -> npt.NDArray[np.bool_]:
    return np.zeros(0, np.bool_)


@dataclass(frozen=True, slots=True)
class Forest:
    """Every layer object of every region, by position. `parent[i]` is the position of the backing layer or -1.

    What is referred to but not there has a position too: it is `refused`, so that what it was built on stays.
    """

    ids: list[str]
    parent: npt.NDArray[np.int64]
    refused: npt.NDArray[np.bool_]  # never a candidate, and a root
    size_bytes: npt.NDArray[np.int64]
    region: list[str]
    age_seconds: npt.NDArray[np.float64]  # since the object was written, by the store's clock
    unknown: npt.NDArray[np.bool_] = field(default_factory=_none)  # nobody has read on what it is built; empty: none
    absent: int = 0  # positions without an object

    @property
    def objects(self) -> int:
        """How many layers there are."""
        return len(self.ids) - self.absent


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the roots were read from, and what the last complete view held: the guard against an empty listing."""

    roots: frozenset[str]  # tips of all heads, read just now
    pins: Mapping[str, str]  # layer id -> why it must stay (`action:<id>`, `lease:<disk>`)
    tombstone_age: Mapping[str, float]  # layer id -> seconds since the tombstone was written, by the store's clock
    heads_now: int
    heads_before: int
    layers_before: int
    cold: Mapping[str, str] = field(default_factory=dict)  # layer id -> where its replacement is not cached yet


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Positions in the forest. `stopped` names the guard that forbids every deletion, with its numbers."""

    mark: tuple[int, ...]
    sweep: tuple[int, ...]  # children before parents
    save: tuple[int, ...]  # tombstoned, but needed again
    waiting: int  # tombstoned, grace not over
    cold: tuple[int, ...]  # grace over, but a replacement (theirs, or of a layer on them) is not warm yet
    capped: int  # could go, but for this run's caps
    kept: int
    stopped: str = ""


def grace_seconds(safety: Safety) -> float:
    """The grace in force: policy's, but never below the floor unless the operator says so explicitly."""
    hours = safety.grace_hours if safety.allow_short_grace else max(safety.grace_hours, MIN_GRACE_HOURS)
    return hours * 3600


def reachable(forest: Forest, roots: frozenset[str], pins: Mapping[str, str]) -> npt.NDArray[np.bool_]:
    """Which layers are at or below a root, a pin or a refused layer. Cycles end the walk by themselves."""
    return _with_all_below(forest, forest.refused | _named(forest, roots | pins.keys()))


def at_or_below(forest: Forest, ids: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Those layers and everything that they are built on, as far as the forest knows it."""
    return _with_all_below(forest, _named(forest, ids))


def asked_for_warmth(tombstone_age: Mapping[str, float], safety: Safety) -> list[str]:
    """Layers whose grace is over and whose longest wait for a warm replacement is not."""
    grace, longest = grace_seconds(safety), safety.warm_wait_hours * 3600
    return sorted(layer_id for layer_id, age in tombstone_age.items() if grace <= age < grace + longest)


def _named(forest: Forest, ids: Iterable[str]) -> npt.NDArray[np.bool_]:
    wanted = frozenset(ids)
    return np.fromiter((layer_id in wanted for layer_id in forest.ids), np.bool_, len(forest.ids))


def _with_all_below(forest: Forest, top: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Those layers and everything that they are built on."""
    found = top.copy()
    frontier = np.flatnonzero(found)
    while frontier.size:
        below = forest.parent[frontier]
        below = np.unique(below[below >= 0])
        frontier = below[~found[below]]
        found[frontier] = True
    return found


def judge(forest: Forest, evidence: Evidence, safety: Safety) -> Verdicts:
    """The verdict on every layer; nothing is swept when a guard says stop."""
    kept = reachable(forest, evidence.roots, evidence.pins)
    grace = grace_seconds(safety)
    missing = float("-inf")
    tomb = np.fromiter((evidence.tombstone_age.get(i, missing) for i in forest.ids), np.float64, len(forest.ids))
    has_tomb = tomb != missing
    dead = ~kept
    mark = np.flatnonzero(dead & ~has_tomb & (forest.age_seconds >= grace))
    over = dead & has_tomb & (tomb >= grace)
    cold = over & _with_all_below(forest, over & _named(forest, evidence.cold))
    due = np.flatnonzero(over & ~cold)
    save = np.flatnonzero(kept & has_tomb)
    waiting = int((dead & has_tomb & (tomb < grace)).sum())
    stopped = _guard(forest, evidence, safety, due.size)
    order = [] if stopped else _children_first(forest, due)
    allowed = _within_caps(forest, order, safety)
    return Verdicts(
        mark=() if stopped else tuple(mark.tolist()),
        sweep=tuple(allowed),
        save=tuple(save.tolist()),
        waiting=waiting,
        cold=tuple(np.flatnonzero(cold).tolist()),
        capped=len(order) - len(allowed),
        kept=int(kept.sum()),
        stopped=stopped,
    )


def _guard(forest: Forest, evidence: Evidence, safety: Safety, due: int) -> str:
    total = forest.objects
    found = shrunken(total, evidence.layers_before, evidence.heads_now, evidence.heads_before)
    if found:
        return found
    if due > safety.max_retired_share * total:
        return f"share_exceeded: {due} of {total} layers are due, more than {safety.max_retired_share:.0%} of the fleet"
    return ""


def shrunken(layers_now: int, layers_before: int, heads_now: int, heads_before: int) -> str:
    """Which listing is suddenly too small to be believed; empty if none is."""
    if heads_now == 0 and layers_now:
        return f"no_heads: {layers_now} layers but not a single head was listed"
    if heads_now < (1 - SHRINK_LIMIT) * heads_before:
        return f"heads_shrank: {heads_before} heads at the last inventory, {heads_now} now"
    if layers_now < (1 - SHRINK_LIMIT) * layers_before:
        return f"layers_shrank: {layers_before} layers at the last inventory, {layers_now} now"
    return ""


def _children_first(forest: Forest, due: npt.NDArray[np.int64]) -> list[int]:
    """Order in which no deletion leaves a child without its backing layer, should the run end half way."""
    members = set(due.tolist())
    children = dict.fromkeys(members, 0)
    for position in members:
        parent = int(forest.parent[position])
        if parent in children:
            children[parent] += 1
    ready = sorted(position for position, count in children.items() if count == 0)
    order: list[int] = []
    while ready:
        position = ready.pop()
        order.append(position)
        parent = int(forest.parent[position])
        if parent in children:
            children[parent] -= 1
            if children[parent] == 0:
                ready.append(parent)
    return order  # members of a cycle never get ready: a broken graph is left to a person


def _within_caps(forest: Forest, order: list[int], safety: Safety) -> list[int]:
    allowed: list[int] = []
    total_bytes = 0
    for position in order[: safety.max_retired_layers]:
        total_bytes += int(forest.size_bytes[position])
        if total_bytes > safety.max_retired_bytes:
            break
        allowed.append(position)
    return allowed
