"""`chainwright import DIR --disk ID --tip FILE --region R`: a local chain becomes a disk of the fleet."""

from pathlib import Path
from typing import Annotated

import typer

from tasks.chain.head import HeadKind
from tasks.cli.common import FleetOption, JsonOption, fleet_of, out, print_json
from tasks.cli.progress import byte_progress
from tasks.errors import ConfigError
from tasks.units import human_bytes


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("import")
    def import_(
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the chain's qcow2 files.")],
        disk: Annotated[str, typer.Option(help="Id of the new disk.")],
        tip: Annotated[str, typer.Option(help="Name of the tip's file in DIR.")],
        region: Annotated[str, typer.Option(help="Home region; its bucket takes the layers.")],
        layer_region: Annotated[
            list[str] | None, typer.Option(metavar="FILE=REGION", help="Another region for one layer; repeatable.")
        ] = None,
        snapshot: Annotated[bool, typer.Option("--snapshot", help="A snapshot head instead of a disk.")] = False,
        fleet: FleetOption = None,
        json: JsonOption = False,
    ) -> None:
        """Upload a chain of qcow2 files and create the disk. May be repeated: what is there is not sent again."""
        from tasks.stages.transfer import import_disk

        kind: HeadKind = "snapshot" if snapshot else "disk"
        where = dict(_pair(text) for text in layer_region or [])
        with byte_progress(visible=not json) as progress:
            result = import_disk(
                fleet_of(fleet), folder, disk, tip, region, layer_regions=where, kind=kind, progress=progress
            )
        if json:
            print_json(result)
            return
        reused = sum(layer.reused for layer in result.layers)
        did = "created" if result.created else "was there already"
        out.print(f"{result.kind} {disk} {did}: {len(result.layers)} layers, tip {result.tip}, home {region}")
        out.print(f"  sent {human_bytes(result.uploaded_bytes)}; {reused} layers were in the store already")


def _pair(text: str) -> tuple[str, str]:
    name, equals, region = text.rpartition("=")
    if not (name and equals and region):
        raise ConfigError(f"--layer-region {text!r}: expected FILE=REGION")
    return name, region
