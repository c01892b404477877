"""`chainwright maintain`: shorten one disk's chain now, or carry out a stored plan. Dry run unless told otherwise."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks.cli.common import EXIT_DONE, EXIT_FAILED, FleetOption, JsonOption, err, fleet_of, out, print_json

if TYPE_CHECKING:
    from tasks.execute.meter import ProgressCallback
    from tasks.settings import Fleet

_GOOD = {"published", "superseded"}


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command()
    def maintain(
        disk: Annotated[str | None, typer.Argument(help="The disk; with --plan: only this one of the plan.")] = None,
        engine: Annotated[str, typer.Option(help="auto, rebase, stream or compose.")] = "auto",
        plan_id: Annotated[str | None, typer.Option("--plan", help="Carry out this stored plan, unchanged.")] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run/--real", help="Only show what would be done.")] = True,
        fleet: FleetOption = None,
        json: JsonOption = False,
    ) -> None:
        """Merge a run of a disk's chain, prove the result, and swing its head."""
        conf = fleet_of(fleet)
        made = _plan(conf, disk, engine, plan_id)
        if not json:
            out.print(made["text"], markup=False)
        if dry_run:
            if json:
                print_json({**made, "dry_run": True})
            else:
                err.print("dry run: nothing was changed; --real carries it out")
            return
        done = [_carry_out(conf, item, quiet=json) for item in made["items"]]
        if json:
            print_json({**made, "dry_run": False, "results": done})
        raise typer.Exit(EXIT_DONE if all(item["outcome"] in _GOOD for item in done) else EXIT_FAILED)


def _plan(fleet: "Fleet", disk: str | None, engine: str, plan_id: str | None) -> dict[str, Any]:
    from tasks.errors import NotFound
    from tasks.stages import maintain as stage
    from tasks.stages import plan
    from tasks.store.connect import control_store
    from tasks.store.plans import load_plan

    if plan_id is None:
        if disk is None:
            raise typer.BadParameter("name a disk, or a stored plan with --plan")
        if engine == "live":
            raise typer.BadParameter("a running disk is shortened in its VM, by `chainwright live`")
        return stage.plan_disk(fleet, disk, "merge", engine)
    made = plan.summary(load_plan(control_store(fleet), plan_id))
    items = [item for item in made["actions"] if disk in (None, item["disk_id"])]
    if disk is not None and not items:
        raise NotFound(f"plan {plan_id} does nothing for disk {disk!r}")
    return {"plan_id": plan_id, "items": items, "text": plan.explain_plan(fleet, plan_id, disk)}


def _carry_out(fleet: "Fleet", item: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    from tasks.stages.apply import apply_action

    with _progress(quiet) as tell:
        result = apply_action(fleet, item["plan_id"], item["action_id"], "cli", tell)
    if not quiet:
        out.print(_line(result), markup=False)
    return result


def _line(result: dict[str, Any]) -> str:
    from tasks.units import human_bytes, human_seconds

    if result["outcome"] != "published":
        return f"{result['disk_id']}: {result['outcome']}: {result['reason']}"
    moved = human_bytes(result["read_bytes"] + result["write_bytes"])
    return (
        f"{result['disk_id']}: published {result['new_tip']}: {result['layers_before']} -> {result['layers_after']}"
        f" layers, {moved} through this worker, {human_bytes(result['copy_bytes'])} copied by the store,"
        f" {human_seconds(result['seconds'])}"
    )


@contextmanager
def _progress(quiet: bool) -> "Iterator[ProgressCallback]":
    from tasks.cli.progress import byte_progress
    from tasks.execute.meter import Progress

    with byte_progress(visible=not quiet) as tell:

        def on_progress(progress: Progress) -> None:
            tell("merge", progress.done_bytes, max(progress.predicted_bytes, progress.done_bytes, 1))

        yield on_progress
