"""`chainwright reads`: the caches' and stores' access logs into the manifest."""

from typing import Annotated

import typer

from tasks.cli.common import FleetOption, JsonOption, fleet_of, out, print_json
from tasks.units import human_bytes


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("reads")(reads)


def reads(
    region: Annotated[
        str | None, typer.Option("--region", help="Only this region's logs; default: every region's.")
    ] = None,
    fleet_file: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Roll what is new in the access logs into the manifest, exactly once. The inventory DAG does it hourly."""
    from tasks.stages import reads as stage

    fleet = fleet_of(fleet_file)
    names = [fleet.region(region).name] if region else [one.name for one in fleet.regions]
    results = [stage.collect(fleet, name) for name in names]
    if json:
        print_json(results)
        return
    for done in results:
        text = f"{done['lines']} lines ({human_bytes(done['bytes'])}), {done['reads']} rows"
        text += f", {done['boot_traces']} slices of starts" if done["boot_traces"] else ""
        bad = f", {done['bad_lines']} unreadable" if done["bad_lines"] else ""
        out.print(f"{done['region']}: {done['note'] or text + bad}")
