"""`chainwright scan`: read what is new in every region and publish a new manifest snapshot."""

from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from tasks.cli.common import EXIT_FAILED, FleetOption, JsonOption, err, fleet_of, out, print_json
from tasks.errors import ChainwrightError
from tasks.settings import Fleet


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command()
    def scan(fleet: FleetOption = None, json: JsonOption = False) -> None:
        """Inventory of all regions, now, with its findings.

        Exit code 1 if a region could not be scanned completely, or a check that stops does not hold.
        """
        from tasks.stages import inventory

        description = fleet_of(fleet)
        with err.status("scanning"):
            result = inventory.run_inventory(description)
        with err.status("checking, and working out what is shadowed"):
            result["findings"] = _findings(description)
        if json:
            print_json(result)
        else:
            _print(result)
        if not result["complete"] or "error" in result["findings"]:
            raise typer.Exit(EXIT_FAILED)


def _findings(fleet: Fleet) -> dict[str, Any]:
    """Those of the new snapshot, or what is in their way: the snapshot is there all the same."""
    from tasks.stages import findings

    try:
        return findings.run(fleet)
    except ChainwrightError as error:
        return {"error": str(error)}


def _print(result: dict[str, Any]) -> None:
    from tasks.units import human_bytes

    table = Table("region", "layers", "new", "gone", "refused", "requests", "read", "seconds", "", box=None)
    for name, state in result["regions"].items():
        mine = [scan for scan in result["scans"] if scan["region"] == name]
        total = {field: sum(scan[field] for scan in mine) for field in ("new", "gone", "refused", "requests", "bytes")}
        table.add_row(
            name,
            str(state["objects"]),
            *(str(total[field]) for field in ("new", "gone", "refused", "requests")),
            human_bytes(total["bytes"]),
            f"{sum(scan['seconds'] for scan in mine):.1f}",
            escape(result["errors"].get(name, state["note"])),
        )
    out.print(table)
    out.print(
        f"Snapshot {result['snapshot_id']}: {result['layers']} layers ({human_bytes(result['size_bytes'])}), "
        f"{result['extents']} extents, {result['heads']} heads"
    )
    out.print(
        f"{result['refused']} layers refused, {result['missing']} missing, "
        f"{result['dangling_backing']} with a dangling backing; {result['heads_not_ok']} heads not ok"
    )
    _print_findings(result["findings"])


def _print_findings(found: dict[str, Any]) -> None:
    from tasks.stages.findings import report

    if "error" in found:
        err.print(f"findings: {escape(found['error'])}", style="red")
        return
    for line in report(found)[1:]:
        out.print(escape(line))
