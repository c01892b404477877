"""A plan in words and figures: rows for tables, text for logs. Says nothing that is not in the plan."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.plan.policy import Budget
from tasks.plan.reasons import CALLS, HAZARDS, SKIPS
from tasks.plan.steps import Cost, LayerRef, MergeAction, Plan, Skip
from tasks.units import human_bytes, human_seconds


@dataclass(frozen=True, slots=True)
class ActionRow:
    """One line of the table of actions."""

    disk_id: str
    engine: str
    layers: str  # "24 -> 9"
    run: str
    moved: str
    copied: str
    egress: str
    time: str
    freed: str
    score: str
    reason: str


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """What the plan takes of one budget. Amounts in the budget's own unit."""

    name: str
    used: float
    limit: float
    text: str

    @property
    def share(self) -> float:
        """Used of the limit; 1.0 is all of it."""
        return self.used / self.limit if self.limit else float(self.used > 0)


def chain_before(action: MergeAction) -> int:
    """Layers of the chain as the plan saw it."""
    return len(action.above) + len(action.run) + (1 if action.base else 0) + len(action.below)


def chain_after(action: MergeAction) -> int:
    """Layers of the chain when the action is done."""
    return chain_before(action) - len(action.run) + 1


def through_worker(cost: Cost) -> int:
    """Bytes fetched and sent by the worker."""
    return sum(cost.read_bytes.values()) + sum(cost.write_bytes.values())


def action_rows(plan: Plan) -> list[ActionRow]:
    """The actions, best first."""
    return [_row(action) for action in plan.actions]


def _row(action: MergeAction) -> ActionRow:
    cost, benefit = action.cost, action.benefit
    return ActionRow(
        disk_id=action.disk_id,
        engine=action.engine,
        layers=f"{chain_before(action)} → {chain_after(action)}",
        run=run_text(action),
        moved=human_bytes(through_worker(cost)),
        copied=human_bytes(sum(cost.copy_bytes.values())),
        egress=f"${cost.egress_usd:.4f}",
        time=human_seconds(cost.seconds),
        freed=human_bytes(benefit.freed_bytes),
        score=f"{benefit.score:.4f}",
        reason=action.reason,
    )


def run_text(action: MergeAction) -> str:
    """Where the run lies: `layers 1 to 10 of 12`, the tip being 0."""
    first = len(action.above)
    return f"{first}-{first + len(action.run) - 1} of {chain_before(action)}"


def skip_counts(plan: Plan) -> list[tuple[str, int, str]]:
    """(code, how many, what it means), most frequent first."""
    counts = Counter(skip.reason for skip in plan.skips)
    return [(code, count, SKIPS.get(code, "")) for code, count in sorted(counts.items(), key=lambda x: (-x[1], x[0]))]


def budget_rows(plan: Plan, budget: Budget) -> list[BudgetRow]:
    """The plan's totals against every budget."""
    cost = plan.total
    rows = [
        _amount("actions", len(plan.actions), budget.actions, "{:.0f}"),
        _bytes("read_bytes", sum(cost.read_bytes.values()), budget.read_bytes),
        _bytes("write_bytes", sum(cost.write_bytes.values()), budget.write_bytes),
        _amount("egress_usd", cost.egress_usd, budget.egress_usd, "${:.4f}"),
    ]
    rows += [_bytes(f"read from {region}", n, budget.region_read_bytes) for region, n in cost.read_bytes.items()]
    rows += [_bytes(f"write to {region}", n, budget.region_write_bytes) for region, n in cost.write_bytes.items()]
    return rows


def _amount(name: str, used: float, limit: float, form: str) -> BudgetRow:
    return BudgetRow(name, used, limit, f"{form.format(used)} of {form.format(limit)}")


def _bytes(name: str, used: int, limit: int) -> BudgetRow:
    return BudgetRow(name, used, limit, f"{human_bytes(used)} of {human_bytes(limit)}")


def explain(plan: Plan, budget: Budget, disk_id: str | None = None) -> str:
    """The plan as text; with `disk_id` everything that it says of this disk."""
    return "\n".join(_disk_lines(plan, disk_id) if disk_id else _plan_lines(plan, budget))


def _plan_lines(plan: Plan, budget: Budget) -> Iterator[str]:
    yield f"plan {plan.plan_id} of manifest {plan.snapshot_id}: {len(plan.actions)} merges, {len(plan.skips)} skips"
    for row in action_rows(plan):
        cost = f"{row.moved} through the worker, {row.copied} copied, {row.egress}, {row.time}"
        yield f"  {row.disk_id}: {row.engine} {row.layers} layers ({row.reason}); {cost}; frees {row.freed}"
    for code, count, meaning in skip_counts(plan):
        yield f"  {count} x {code}: {meaning}"
    for line in budget_rows(plan, budget):
        yield f"  budget {line.name}: {line.text}"


def _disk_lines(plan: Plan, disk_id: str) -> Iterator[str]:
    actions = [action for action in plan.actions if action.disk_id == disk_id]
    skips = [skip for skip in plan.skips if skip.disk_id == disk_id]
    if not actions and not skips:
        yield f"{disk_id}: not in plan {plan.plan_id}"
    for action in actions:
        yield from action_lines(action)
    for skip in skips:
        yield skip_line(skip)


def skip_line(skip: Skip) -> str:
    """One skip in one line."""
    return f"{skip.disk_id}: skipped, {skip.reason}: {SKIPS.get(skip.reason, '')} ({skip.detail})"


def action_lines(action: MergeAction) -> Iterator[str]:
    """Everything that the plan says of one merge."""
    cost, benefit = action.cost, action.benefit
    yield f"{action.disk_id}: merge {action.action_id}, because {action.reason}: {CALLS.get(action.reason, '')}"
    yield f"  chain: {chain_before(action)} layers, afterwards {chain_after(action)}; lives in {action.home_region}"
    yield f"  kept above the run, with a new header: {_names(action.above)}"
    yield f"  run, merged into one: {_names(action.run)}"
    yield f"  put on: {_names((action.base,)) if action.base else 'nothing (flattened)'}"
    yield f"  engine: {action.engine}, {action.engine_reason}"
    for engine, why in sorted(action.engines_refused.items()):
        yield f"  not {engine}: {why}{_meaning(why)}"
    for name, counts in (
        ("fetched from", cost.read_bytes),
        ("sent to", cost.write_bytes),
        ("copied in", cost.copy_bytes),
    ):
        for region, count in counts.items():
            yield f"  {name} {region}: {human_bytes(count)} ({count} bytes)"
    yield f"  {cost.requests} requests, ${cost.egress_usd:.4f} egress, {human_seconds(cost.seconds)}"
    yield f"  work directory: {human_bytes(cost.temp_bytes)}"
    yield (
        f"  brings: {benefit.layers_removed} layers fewer, {human_bytes(benefit.freed_bytes)} freed, "
        f"{human_bytes(benefit.memory_bytes)} of tables, {benefit.first_read_seconds:.3f} s of each start; "
        f"net ${benefit.score:.4f} over the horizon"
    )


def _meaning(why: str) -> str:
    code = why.split(":", 1)[0]
    return f" ({HAZARDS[code]})" if code in HAZARDS else ""


def _names(layers: tuple[LayerRef, ...]) -> str:
    if not layers:
        return "none"
    shown = [f"{layer.layer_id[:8]}@{layer.region}" for layer in layers[:6]]
    more = f" and {len(layers) - 6} more" if len(layers) > 6 else ""
    size = human_bytes(sum(layer.size_bytes for layer in layers))
    return f"{len(layers)} layers, {size}: {', '.join(shown)}{more}"
