"""`chainwright retire` and `chainwright undo DISK`."""

from typing import Annotated, Any

import typer
from rich.table import Table

from tasks.cli.common import EXIT_FAILED, FleetOption, JsonOption, err, fleet_of, out, print_json


def register(app: typer.Typer) -> None:
    """Add both verbs."""

    @app.command()
    def retire(
        dry_run: Annotated[bool, typer.Option("--dry-run/--real", help="Only show what would be done.")] = True,
        max_share: Annotated[
            float | None, typer.Option(min=0.0, max=1.0, help="Largest share of all layers that this run may delete.")
        ] = None,
        fleet: FleetOption = None,
        json: JsonOption = False,
    ) -> None:
        """Tombstone layers that nothing needs; delete those whose grace is over. Exit code 1 if a guard stopped it."""
        from tasks.stages import retire as stage

        conf = fleet_of(fleet)
        with err.status("looking at every region"):
            report = stage.retire(conf, dry_run=dry_run, max_share=max_share)
        if json:
            print_json(report)
        else:
            _print(report)
        if report["stopped"]:
            raise typer.Exit(EXIT_FAILED)

    @app.command()
    def undo(
        disk: Annotated[str, typer.Argument(help="Disk id.")],
        fleet: FleetOption = None,
        json: JsonOption = False,
    ) -> None:
        """Point a disk's head back to what it was before its last action, while the replaced layers are there."""
        from tasks.stages import retire as stage

        head = stage.undo(fleet_of(fleet), disk)
        if json:
            print_json(head)
        else:
            out.print(f"{disk}: back on layer {head['tip']} (generation {head['generation']})", markup=False)


def _print(report: dict[str, Any]) -> None:
    from tasks.units import human_bytes

    would = "would be " if report["dry_run"] else ""
    table = Table("layers", "", box=None)
    rows = {
        "needed": report["kept"],
        f"{would}tombstoned": len(report["marked"]),
        f"{would}saved (needed again)": len(report["saved"]) + len(report["kept_anew"]),
        "waiting for the grace": report["waiting"],
        "waiting for a warm replacement": len(report["cold"]),
        f"{would}deleted": len(report["swept"]),
        "left to the next run by the caps": report["capped"],
        "not the object that was tombstoned": len(report["changed"]),
    }
    for name, count in rows.items():
        table.add_row(str(count), name)
    out.print(table)
    for region, count in report["freed_bytes"].items():
        money = report["freed_usd_per_month"][region]
        out.print(f"{region}: {human_bytes(count)} {would}freed, {money:.4f} USD a month", markup=False)
    for why in sorted(set(report["cold"].values())):
        out.print(f"waiting: {why}", markup=False)
    for upload in report["aborted_uploads"]:
        out.print(f"abandoned upload {would}aborted: {upload}", markup=False)
    if report["stopped"]:
        err.print(f"stopped: {report['stopped']}; nothing was deleted", markup=False)
    elif report["dry_run"]:
        err.print("dry run: nothing was changed; --real carries it out")
