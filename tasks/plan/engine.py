"""Which engine takes a run, why, and why not the others: decided from the manifest, before a byte moves."""

from collections.abc import Callable
from dataclasses import dataclass

from tasks.errors import Refused
from tasks.plan.cost import Parts, estimate
from tasks.plan.hazards import Run, refusals
from tasks.plan.inputs import Prices, Tools
from tasks.plan.policy import Policy
from tasks.plan.steps import Cost, Engine
from tasks.units import human_bytes

ORDER: tuple[Engine, ...] = ("rebase", "stream", "compose")  # also the order of preference at equal cost


@dataclass(frozen=True, slots=True)
class Verdict:
    """The engine with its cost, or None with every engine refused."""

    engine: Engine | None
    reason: str
    refused: dict[str, str]  # engine -> "code: sentence"
    cost: Cost | None = None


def choose_engine(
    parts: Parts, policy: Policy, prices: Prices, tools: Tools, costs: Callable[[str], Cost] | None = None
) -> Verdict:
    """The safe engine of least cost; rebase where the talk's rule asks for it. Idle disks only.

    `costs` (may raise Refused) says what each engine would take, by default an estimate from the manifest's sums.
    """
    price = costs or (lambda engine: estimate(engine, parts, policy, prices))
    run = Run(parts.run, parts.below, policy, tools)
    refused = {engine: f"{found.code}: {found.text}" for engine, found in refusals(run).items()}
    refused["live"] = "offline: the disk is idle"
    able: dict[Engine, Cost] = {}
    for engine in ORDER:
        if engine not in refused:
            try:
                able[engine] = price(engine)
            except Refused as error:  # what the sums do not show, the extents may
                refused[engine] = f"{error.reason}: {error.text}"
    if not able:
        return Verdict(None, "", refused)
    usd = {engine: _usd(cost, parts, policy, engine) for engine, cost in able.items()}
    chosen = min(usd, key=lambda name: (round(usd[name], 9), ORDER.index(name)))
    reason = _cheapest(able[chosen], len(able))
    small = _small_parent(parts, policy)
    if "rebase" in able and small:
        chosen, reason = "rebase", small
    for other in able:
        if other != chosen:
            refused[other] = _why_not(able[other], able[chosen])
    return Verdict(chosen, reason, refused, able[chosen])


def _small_parent(parts: Parts, policy: Policy) -> str | None:
    """The talk's rule: a small merge is rebased at once. Only where the base that must be compared is near."""
    size = sum(layer.size_bytes for layer in parts.run)
    near = all(layer.region == parts.home for layer in parts.below)
    if size > policy.small_backing_bytes or not near or policy.compare_with_base == "never":
        return None
    return f"small_parent: the run holds {human_bytes(size)}, at most {human_bytes(policy.small_backing_bytes)}"


def _usd(cost: Cost, parts: Parts, policy: Policy, engine: str) -> float:
    """One figure to compare engines by."""
    weights = policy.weights
    through = sum(cost.read_bytes.values()) + sum(cost.write_bytes.values())
    usd = (
        cost.egress_usd + through / 1e9 * weights.worker_usd_per_gb + cost.seconds / 3600 * weights.worker_usd_per_hour
    )
    usd += cost.requests * weights.request_usd
    if engine == "rebase":  # what comparison is expected to save
        usd -= weights.expected_equal_share * parts.moved / 1e9 * 0.023 * weights.horizon_months
    return usd


def _through(cost: Cost) -> int:
    return sum(cost.read_bytes.values()) + sum(cost.write_bytes.values())


def _cheapest(cost: Cost, choices: int) -> str:
    moved = f"{human_bytes(_through(cost))} through the worker"
    return f"least_cost: {moved}" if choices > 1 else f"only_safe_engine: {moved}"


def _why_not(cost: Cost, chosen: Cost) -> str:
    if _through(cost) >= _through(chosen):
        return f"more_bytes: {human_bytes(_through(cost))} through the worker"
    return f"not_needed: {human_bytes(_through(cost))} through the worker, but the chosen one is preferred"
