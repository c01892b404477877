"""`chainwright plan`: what maintenance would do, why, and what it would cost. Changes nothing."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from tasks.cli.common import FleetOption, JsonOption, err, fleet_of, out, print_json

if TYPE_CHECKING:
    from tasks.plan.policy import Budget
    from tasks.plan.steps import Plan
    from tasks.settings import Fleet

SHOWN = 40  # rows of a table


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command()
    def plan(
        disks: Annotated[list[str] | None, typer.Argument(help="Only these disks, whatever their length.")] = None,
        explain: Annotated[str | None, typer.Option(metavar="DISK", help="Everything about one disk.")] = None,
        budget: Annotated[
            list[str] | None, typer.Option(metavar="KEY=VALUE", help="Override a budget: read_bytes=20GiB, actions=5 …")
        ] = None,
        engine: Annotated[str, typer.Option(help="auto, or the only engine that may be used.")] = "auto",
        plan_id: Annotated[str | None, typer.Option("--plan", help="Show this stored plan instead.")] = None,
        save: Annotated[bool, typer.Option(help="Store the plan, so that it can be carried out as it is.")] = False,
        fleet: FleetOption = None,
        json: JsonOption = False,
    ) -> None:
        """What would be merged, with which engine, at which cost; what is left alone, and why."""
        from tasks.plan.codec import plan_to_json
        from tasks.stages import plan as stage
        from tasks.store.connect import control_store
        from tasks.store.plans import load_plan, store_plan

        conf = fleet_of(fleet)
        options = stage.Options(tuple(disks or ()), engine, _overrides(budget or []))
        control = control_store(conf)
        made = load_plan(control, plan_id) if plan_id else stage.build(conf, options, control=control)
        warm = [] if plan_id else _to_warm(conf, options.disks)
        if save and not plan_id:
            store_plan(control, made)
        if json:
            print_json({**plan_to_json(made), "warm": warm})
        elif explain:
            _explain(made, warm, explain)
        else:
            _print(made, stage.policy_of(conf.policy, options).budget)
            if warm:
                out.print(_warming(warm))
        if save:
            err.print(f"stored as {made.plan_id}")


def _overrides(texts: list[str]) -> dict[str, float]:
    from tasks.units import parse_amount

    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            found[name.strip()] = parse_amount(value)
        except ValueError:
            equals = ""
        if not equals:
            raise typer.BadParameter(f"{text!r} is not KEY=NUMBER (20GiB, 5e9, 12.5)", param_hint="--budget")
    return found


def _to_warm(fleet: "Fleet", disks: tuple[str, ...]) -> list[dict[str, Any]]:
    """What the DAG `cache_warm` would do now, for these disks or for all."""
    from tasks.stages import warm_plan

    return [item for item in warm_plan.plan_warm(fleet) if not disks or item["disk_id"] in disks]


def _explain(plan: "Plan", warm: list[dict[str, Any]], disk: str) -> None:
    from tasks.errors import NotFound
    from tasks.plan import explain as words

    lines = [line for action in plan.actions if action.disk_id == disk for line in words.action_lines(action)]
    lines += [words.skip_line(skip) for skip in plan.skips if skip.disk_id == disk]
    lines += [f"{disk}: warm in {item['region']}: {item['why']}" for item in warm if item["disk_id"] == disk]
    if not lines:
        raise NotFound(f"no disk {disk!r} in manifest {plan.snapshot_id}")
    for line in lines:
        out.print(line, markup=False)


def _print(plan: "Plan", budget: "Budget") -> None:
    out.print(f"plan {plan.plan_id} of manifest {plan.snapshot_id}", markup=False)
    if plan.actions:
        out.print(_actions(plan))
    else:
        out.print("nothing to merge")
    if plan.skips:
        out.print(_skips(plan))
    if plan.actions:
        out.print(_budget(plan, budget))


def _actions(plan: "Plan") -> Table:
    from tasks.plan.explain import action_rows

    table = Table(title=f"{len(plan.actions)} merges", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("disk", overflow="fold", min_width=10)
    for name in ("engine", "chain"):
        table.add_column(name, no_wrap=True)
    for name in ("worker", "copied", "egress", "time", "frees", "net/month"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = action_rows(plan)
    for row in rows[:SHOWN]:
        figures = (row.moved, row.copied, row.egress, row.time, row.freed, row.score)
        table.add_row(escape(row.disk_id), row.engine, row.layers, *figures)
    if len(rows) > SHOWN:
        table.caption = f"and {len(rows) - SHOWN} more: --json shows all"
    return table


def _skips(plan: "Plan") -> Table:
    from tasks.plan.explain import skip_counts

    title = f"{len(plan.skips)} left alone"
    table = Table("disks", title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("code", no_wrap=True)
    table.add_column("why")
    table.add_column("for example", overflow="fold")
    for code, count, meaning in skip_counts(plan):
        first = next(skip for skip in plan.skips if skip.reason == code)
        table.add_row(str(count), code, meaning, escape(f"{first.disk_id}: {first.detail}"))
    return table


def _warming(warm: list[dict[str, Any]]) -> Table:
    table = Table(title=f"{len(warm)} to warm (DAG cache_warm, or `chainwright warm`)", title_justify="left")
    table.box, table.pad_edge = SIMPLE_HEAD, False
    table.add_column("disk", overflow="fold", min_width=10)
    table.add_column("region", no_wrap=True)
    table.add_column("why")
    for item in warm[:SHOWN]:
        table.add_row(escape(item["disk_id"]), item["region"], escape(item["why"]))
    if len(warm) > SHOWN:
        table.caption = f"and {len(warm) - SHOWN} more: --json shows all"
    return table


def _budget(plan: "Plan", budget: "Budget") -> Table:
    from tasks.plan.explain import budget_rows

    table = Table("budget", "plan", "share", title="budgets", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for row in budget_rows(plan, budget):
        table.add_row(row.name, row.text, f"{row.share:.1%}")
    return table
