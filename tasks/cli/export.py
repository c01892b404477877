"""`chainwright export DISK OUT`: a disk of the fleet as one local file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tasks.cli.common import FleetOption, JsonOption, err, fleet_of, out, print_json
from tasks.cli.progress import byte_progress
from tasks.units import human_bytes


class Format(StrEnum):
    """What OUT is."""

    raw = "raw"
    qcow2 = "qcow2"


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command()
    def export(
        disk: Annotated[str, typer.Argument(help="Disk id.")],
        target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
        image_format: Annotated[
            Format, typer.Option("--format", help="qcow2: flattened, no backing file.")
        ] = Format.raw,
        force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")] = False,
        fleet: FleetOption = None,
        json: JsonOption = False,
    ) -> None:
        """Assemble a disk's chain into one file. Run it again after a crash: what was fetched is kept."""
        from tasks.stages.export import export_disk

        with byte_progress(visible=not json) as progress:
            result = export_disk(fleet_of(fleet), disk, target, image_format.value, force=force, progress=progress)
        if json:
            print_json(result)
            return
        out.print(escape(f"{disk}: {result.layers} layers as {result.format} in {result.out}"))
        out.print(
            f"  fetched {human_bytes(result.fetched_bytes)}, {human_bytes(result.resumed_bytes)} were here already"
        )
        out.print(f"  sha256 of the guest content: {result.guest_sha256}")
        if result.state == "running":
            err.print("the disk runs: what its VM wrote since the start is not in the store yet")
