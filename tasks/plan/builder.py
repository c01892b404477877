"""Values in, a plan out. No clock, no store: the same input gives the same plan, to the last byte."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.plan import reasons
from tasks.plan.candidates import Candidate, no_engine, propose, screen
from tasks.plan.cost import total
from tasks.plan.inputs import ChainInput, FleetInput, LayerInput
from tasks.plan.policy import Budget
from tasks.plan.runs import Span
from tasks.plan.schedule import Choice, choose
from tasks.plan.steps import MergeAction, Plan, Skip
from tasks.units import human_bytes


@dataclass(frozen=True, slots=True)
class Proposals:
    """Per disk the runs that are worth it, best first; and why the other disks are left alone."""

    groups: tuple[tuple[Candidate, ...], ...]
    skips: tuple[Skip, ...]

    def replaced(self, better: Mapping[tuple[int, int], Candidate]) -> "Proposals":
        """With some candidates, by (disk, run), known better."""
        groups = [list(group) for group in self.groups]
        for (group, item), candidate in better.items():
            groups[group][item] = candidate
        return replace(self, groups=tuple(tuple(group) for group in groups))


def build_plan(fleet: FleetInput) -> Plan:
    """The best merges under the policy's budgets, and for every other disk the reason why not."""
    proposals = propose_all(fleet)
    return assemble(fleet, proposals, select(proposals, fleet.policy.budget))


def propose_all(fleet: FleetInput) -> Proposals:
    """Look at every disk; walks `fleet.chains` once."""
    skips: list[Skip] = []
    groups: list[tuple[Candidate, ...]] = []
    for head in fleet.heads:
        verdict = screen(head, fleet.policy, fleet.now, head.disk_id in fleet.requested)
        if isinstance(verdict, Skip):
            skips.append(verdict)
        else:
            skips.append(Skip(head.disk_id, "refused_layer", "the chain's layers could not be loaded"))
    for chain in fleet.chains:
        call = screen(chain.head, fleet.policy, fleet.now, chain.head.disk_id in fleet.requested)
        found = call if isinstance(call, Skip) else propose(chain, fleet, call)
        if isinstance(found, Skip):
            skips.append(found)
        else:
            groups.append(tuple(found))
    return Proposals(tuple(groups), tuple(skips))


def select(proposals: Proposals, budget: Budget) -> tuple[int, ...]:
    """Per disk the index of the run to merge, or -1: the best set under the budget."""
    return choose([[Choice(_worth(item), item.cost) for item in group] for group in proposals.groups], budget).picks


def assemble(fleet: FleetInput, proposals: Proposals, picks: Sequence[int]) -> Plan:
    """The plan of a selection."""
    actions, skips = [], list(proposals.skips)
    for group, pick in zip(proposals.groups, picks, strict=True):
        if pick < 0:
            skips.append(_left_out(group))
            continue
        actions.append(action_of(group[pick]))
        skips.extend(_later(group[pick], span) for span in group[pick].rest)
    return _plan(fleet, actions, skips)


def _worth(item: Candidate) -> float:
    """Net dollars; what a person asked for comes before everything that merely pays."""
    return item.value + 1e6 if item.reason == reasons.REQUESTED else item.value


def _left_out(group: Sequence[Candidate]) -> Skip:
    best = max(group, key=_worth)
    if best.verdict.engine is None:
        return no_engine(best.chain.head.disk_id, best.verdict)
    cost = best.cost
    moved = sum(cost.read_bytes.values()) + sum(cost.write_bytes.values())
    brings = f"its best merge brings {best.value:.4f} USD a month"
    detail = f"{brings}, moves {human_bytes(moved)}, egress {cost.egress_usd:.4f} USD"
    code = "over_budget" if _worth(best) > 0 else "not_worth_it"
    return Skip(best.chain.head.disk_id, code, detail)


def _later(chosen: Candidate, span: Span) -> Skip:
    detail = f"layers {span.top} to {span.bottom} are worth a merge too: one head swing per plan"
    return Skip(chosen.chain.head.disk_id, "next_round", detail)


def action_of(candidate: Candidate) -> MergeAction:
    """The step that the executor takes."""
    chain, span = candidate.chain, candidate.span
    below = chain.layers[span.bottom + 1 :]
    run = chain.layers[span.top : span.bottom + 1]
    return MergeAction(
        action_id=action_id(chain, run, below[0] if below else None, candidate.engine),
        disk_id=chain.head.disk_id,
        home_region=chain.head.home_region,
        engine=candidate.engine,
        engine_reason=candidate.verdict.reason,
        engines_refused=dict(sorted(candidate.verdict.refused.items())),
        tip=chain.head.tip,
        above=tuple(layer.ref() for layer in chain.layers[: span.top]),
        run=tuple(layer.ref() for layer in run),
        base=below[0].ref() if below else None,
        below=tuple(layer.ref() for layer in below[1:]),
        reason=candidate.reason,
        cost=candidate.cost,
        benefit=candidate.benefit,
    )


def action_id(chain: ChainInput, run: Iterable[LayerInput], base: LayerInput | None, engine: str) -> str:
    """Derived from what the action reads and does, so that a repeated plan names the same action."""
    inputs = {
        "disk": chain.head.disk_id,
        "tip": chain.head.tip,
        "home": chain.head.home_region,
        "run": [(layer.layer_id, layer.region, layer.etag) for layer in run],
        "base": (base.layer_id, base.region) if base else None,
        "engine": engine,
    }
    return "merge-" + _digest(inputs)[:32]


def _plan(fleet: FleetInput, actions: list[MergeAction], skips: list[Skip]) -> Plan:
    actions.sort(key=lambda action: (-action.benefit.score, action.disk_id))
    skips.sort(key=lambda skip: (skip.disk_id, skip.reason))
    name = _digest([fleet.snapshot_id, fleet.now, [action.action_id for action in actions]])[:16]
    stamp = "".join(mark for mark in fleet.now[:19] if mark.isdigit())
    return Plan(
        plan_id=f"plan-{stamp}-{name}",
        snapshot_id=fleet.snapshot_id,
        created_at=fleet.now,
        actions=tuple(actions),
        skips=tuple(skips),
        total=total(action.cost for action in actions),
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
