"""`chainwright warm`: what the next start will read, into a region's cache."""

import logging
import sys
from typing import Annotated, Any

import typer
from rich.markup import escape

from tasks.cli.common import EXIT_FAILED, FleetOption, JsonOption, err, fleet_of, out, print_json
from tasks.units import human_bytes, human_seconds


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("warm")(warm)


def warm(
    disks: Annotated[
        list[str], typer.Argument(metavar="DISK...", help="Disks to warm; what they share is fetched once.")
    ],
    region: Annotated[str, typer.Option("--region", help="The region whose cache is filled.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is missing in the cache.")] = False,
    fleet_file: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Fetch what a full read of the disks touches into the region's cache: visible data, and every layer's tables.

    What is cached is not fetched again, so an interrupted run goes on where it stopped.
    """
    from tasks.stages import warm as stage

    if not json:
        _show_progress()
    results = stage.warm_disks(fleet_of(fleet_file), disks, region, dry_run=dry_run)
    if json:
        print_json(results)
    else:
        for result in results:
            _print(result)
    if any("error" in result for result in results):
        raise typer.Exit(EXIT_FAILED)


def _show_progress() -> None:
    """A line every ten seconds, on standard error."""
    logger = logging.getLogger("tasks.cache.warmer")
    logger.setLevel(logging.INFO)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]


def _print(result: dict[str, Any]) -> None:
    disk = result["disk_id"]
    if "error" in result:
        err.print(f"[red]chainwright:[/red] {escape(' '.join(result['error'].split()))}")
        return
    whole = f"{result['slices']} slices, {human_bytes(result['bytes'])} of {human_bytes(result['chain_bytes'])}"
    out.print(f"[bold]{disk}[/bold] in {result['region']}: {whole} in {result['chain_layers']} layers")
    if result["dry_run"]:
        remote = human_bytes(result["missing_remote_bytes"])
        out.print(
            f"  cached {result['present']}, missing {result['missing']} ({remote} in other regions); nothing fetched"
        )
        if result["note"]:
            out.print(f"  a run would fetch {human_bytes(result['allowed_bytes'])}: {result['note']}")
        return
    took = human_seconds(result["seconds"])
    out.print(
        f"  cached {result['present']}, fetched {result['fetched']} ({human_bytes(result['fetched_bytes'])}) in {took}"
    )
    if result["left_out"]:
        out.print(f"  left out {result['left_out']}: {result['note']}")
