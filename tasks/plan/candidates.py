"""Which disks are worth a merge, and which runs: every verdict with its reason. Decides from values only."""

import datetime
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasks.plan import reasons
from tasks.plan.cost import parts_of
from tasks.plan.engine import Verdict, choose_engine
from tasks.plan.hazards import COMMON, Run, first_refusal
from tasks.plan.inputs import ChainInput, FleetInput, HeadInput
from tasks.plan.policy import Policy
from tasks.plan.runs import Span, ladder
from tasks.plan.score import RunScores, score_runs
from tasks.plan.steps import Benefit, Cost, Engine, Skip
from tasks.units import human_bytes

RETRY_HOURS = 6.0  # a disk whose action failed waits: else it takes others' share of every run's budget
MAX_TRIES = 64  # runs of one chain that turn out to have no safe engine before the chain is given up


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that could be merged, with its engine, what it costs and brings. `value` is net dollars."""

    chain: ChainInput
    span: Span
    reason: str
    engine: Engine
    verdict: Verdict
    cost: Cost
    benefit: Benefit
    value: float
    exact: bool = False  # the cost is from the layers' extents
    rest: tuple[Span, ...] = ()  # other runs of the best set: for the next plan, as a head is swung once


def screen(head: HeadInput, policy: Policy, now: str, requested: bool = False) -> Skip | str:
    """Why the disk is left alone, or the reason code that calls for a merge. Needs no layers."""
    for reason, detail in _barriers(head, policy, now):
        if not (requested and reason in {"outside_window", "failed_before"}):
            return Skip(head.disk_id, reason, detail)
    call = reasons.REQUESTED if requested else _call(head, policy)
    if call is None:
        detail = f"{head.chain_layers} layers, limit {policy.max_chain_length}"
        return Skip(head.disk_id, "chain_short_enough", detail)
    if head.private_layers < 2:
        shared = head.chain_layers - head.private_layers
        return Skip(head.disk_id, "shared_layer", f"{shared} of {head.chain_layers} layers are used by others too")
    return call


def _barriers(head: HeadInput, policy: Policy, now: str) -> Iterator[tuple[str, str]]:
    broken = {
        "dangling": "head_dangling",
        "refused": "head_refused",
        "cycle": "backing_cycle",
        "missing_backing": "missing_backing",
        "refused_layer": "refused_layer",
        "unknown_region": "unknown_region",
    }
    if head.status != "ok":
        yield broken.get(head.status, "head_refused"), head.detail or head.status
    if head.disk_id in policy.protected_disks:
        yield "protected_disk", "named in policy.protected_disks"
    if head.state != "idle":
        yield "running_disk", f"{head.chain_layers} layers"
    if head.lease_expires_at is not None and head.lease_expires_at > now:
        yield "leased", f"action {head.lease_action} until {head.lease_expires_at}"
    if head.failed_at is not None and _hours_between(head.failed_at, now) < RETRY_HOURS:
        yield "failed_before", f"at {head.failed_at}: {head.failure}"
    if not window_open(policy.window, now):
        yield "outside_window", f"window {policy.window} UTC, now {now[11:16]}"


def _hours_between(earlier: str, later: str) -> float:
    """Both ISO 8601 with a zone."""
    span = datetime.datetime.fromisoformat(later) - datetime.datetime.fromisoformat(earlier)
    return span.total_seconds() / 3600


def _call(head: HeadInput, policy: Policy) -> str | None:
    """What calls for a merge."""
    if head.chain_layers > policy.max_chain_length:
        return reasons.CHAIN_TOO_LONG
    if head.private_layers >= 2 and 0 < head.parent_bytes <= policy.small_backing_bytes and policy.rebase_small_parents:
        return reasons.SMALL_PARENT
    if policy.bring_home and head.remote_layers:
        return reasons.REMOTE_CHAIN
    shadowed = head.shadowed_bytes
    share = policy.merge_when_shadowed_share * head.stored_bytes
    if shadowed >= max(policy.merge_when_shadowed_bytes, share, 1):
        return reasons.SHADOWED_BYTES
    return None


def window_open(window: str, now: str) -> bool:
    """Whether `now` (ISO 8601, UTC) lies in `HH:MM-HH:MM`; a window may cross midnight; empty is always."""
    if not window:
        return True
    start, end = window.split("-")
    at = datetime.datetime.fromisoformat(now).astimezone(datetime.UTC).strftime("%H:%M")
    return start <= at < end if start <= end else at >= start or at < end


def propose(chain: ChainInput, fleet: FleetInput, call: str) -> list[Candidate] | Skip:
    """The runs that are worth it, best first, at most one per rung of the ladder; or why there is none."""
    bad = _bad_layer(chain)
    if bad is not None:
        return bad
    allowed = _allowed(chain, fleet, call)
    if isinstance(allowed, Skip):
        return allowed
    scores = score_runs(chain, fleet.policy, fleet.prices)
    return _Search(chain, fleet, call, scores, allowed).run()


def _bad_layer(chain: ChainInput) -> Skip | None:
    for layer in chain.layers:
        if layer.status == "missing":
            return Skip(chain.head.disk_id, "missing_backing", f"layer {layer.layer_id} is not there")
        if layer.status != "ok":
            return Skip(chain.head.disk_id, "refused_layer", f"layer {layer.layer_id}: {layer.reason}")
    return None


def _allowed(chain: ChainInput, fleet: FleetInput, call: str) -> NDArray[np.bool_] | Skip:
    """[i, j]: runs that policy and the layers themselves do not forbid."""
    n, policy = len(chain.private), fleet.policy
    allowed = np.triu(np.ones((n, n), bool), 1)
    last = n - 1
    if len(chain.layers) == n and not policy.flatten:
        allowed[:, last] = False
    removed = np.arange(n)[None, :] - np.arange(n)[:, None]
    keep = 1 if call in {reasons.SMALL_PARENT, reasons.REQUESTED} else policy.keep_layers
    allowed &= removed <= n - keep
    if not allowed.any():
        return Skip(chain.head.disk_id, "keep_layers", f"{n} private layers, the policy keeps {keep} and the base")
    first: str | None = None
    for k, layer in enumerate(chain.private):
        refusal = first_refusal(COMMON, Run((layer,), (), policy, fleet.tools))
        if refusal is not None:
            allowed[: k + 1, k:] = False
            first = first or f"{refusal.code}: {refusal.text}"
    if not allowed.any():
        return Skip(chain.head.disk_id, "no_safe_engine", first or "")
    return allowed


def spent_usd(cost: Cost, policy: Policy) -> float:
    """Everything that an action takes, in dollars."""
    weights = policy.weights
    through = sum(cost.read_bytes.values()) + sum(cost.write_bytes.values())
    usd = cost.egress_usd + through / 1e9 * weights.worker_usd_per_gb + cost.requests * weights.request_usd
    return usd + cost.seconds / 3600 * weights.worker_usd_per_hour + weights.action_usd


def refined(candidate: Candidate, fleet: FleetInput, costs: Callable[[str], Cost]) -> Candidate:
    """The same run with exact costs: engine, cost and value are decided again. Worth -inf if no engine is left."""
    parts = parts_of(candidate.chain, candidate.span)
    verdict = choose_engine(parts, fleet.policy, fleet.prices, fleet.tools, costs)
    if verdict.engine is None or verdict.cost is None:
        return replace(candidate, verdict=verdict, value=-math.inf, exact=True)
    value = candidate.value + spent_usd(candidate.cost, fleet.policy) - spent_usd(verdict.cost, fleet.policy)
    benefit = replace(candidate.benefit, score=round(value, 6))
    return replace(
        candidate,
        engine=verdict.engine,
        verdict=verdict,
        cost=verdict.cost,
        benefit=benefit,
        value=value,
        exact=True,
    )


@dataclass(slots=True)
class _Search:
    """Walks the ladder of best sets until each rung's first run has a safe engine."""

    chain: ChainInput
    fleet: FleetInput
    call: str
    scores: RunScores
    allowed: NDArray[np.bool_]

    def run(self) -> list[Candidate] | Skip:
        refused: Verdict | None = None
        for _ in range(MAX_TRIES):
            found, bad = self._once()
            if bad is None:
                return found or self._nothing(refused)
            span, refused = bad
            self.allowed[span.top, span.bottom] = False
            if _widening_is_no_help(refused):
                self.allowed[: span.top + 1, span.bottom :] = False
        return self._nothing(refused)

    def _once(self) -> tuple[list[Candidate], tuple[Span, Verdict] | None]:
        found: dict[Span, Candidate] = {}
        for spans in ladder(self.scores, self.allowed, asked=self.call == reasons.REQUESTED):
            for span in spans:
                if span in found:
                    continue
                parts = parts_of(self.chain, span)
                verdict = choose_engine(parts, self.fleet.policy, self.fleet.prices, self.fleet.tools)
                if verdict.engine is None or verdict.cost is None:
                    return [], (span, verdict)
                rest = tuple(other for other in spans if other != span)
                found[span] = self._candidate(span, verdict, verdict.cost, verdict.engine, rest)
        worth = [item for item in found.values() if item.value > 0 or self.call == reasons.REQUESTED]
        return sorted(worth, key=lambda item: -item.value), None

    def _candidate(self, span: Span, verdict: Verdict, cost: Cost, engine: Engine, rest: tuple[Span, ...]) -> Candidate:
        at, scores = (span.top, span.bottom), self.scores
        brings = float(scores.benefit_usd[at])
        value = brings - spent_usd(cost, self.fleet.policy)
        benefit = Benefit(
            layers_removed=span.removed,
            freed_bytes=round(float(scores.freed[at])),
            memory_bytes=round(float(scores.memory[at])),
            first_read_seconds=round(float(scores.start_seconds[at]), 3),
            score=round(value, 6),
        )
        return Candidate(self.chain, span, self.call, engine, verdict, cost, benefit, value, rest=rest)

    def _nothing(self, refused: Verdict | None) -> Skip:
        disk = self.chain.head.disk_id
        if refused is not None:
            return no_engine(disk, refused)
        best = float(np.where(self.allowed, self.scores.net_usd, -np.inf).max())
        moved = human_bytes(float(np.where(self.allowed, self.scores.moved, 0).max()))
        return Skip(disk, "not_worth_it", f"best run: {best:+.4f} USD a month, up to {moved} to move")


def no_engine(disk: str, verdict: Verdict) -> Skip:
    """The skip that names every engine's hazard."""
    why = (f"{engine}: {text}" for engine, text in sorted(verdict.refused.items()) if engine != "live")
    return Skip(disk, "no_safe_engine", "; ".join(why))


MONOTONE = ("cluster_size_mix", "extended_l2", "v2", "compressed_mix", "unaligned_size", "bitmaps_present")


def _widening_is_no_help(verdict: Verdict) -> bool:
    """Whether every wider run has the hazard too."""
    stable = (*MONOTONE, "not_available", "compare_never", "compare_always")
    return all(text.split(":")[0] in stable for engine, text in verdict.refused.items() if engine != "live")
