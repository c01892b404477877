"""`chainwright blockdev`: how QEMU opens a disk through the host's exporter."""

import enum
import shlex
from pathlib import Path
from typing import Annotated

import typer

from tasks.cli.common import FleetOption, fleet_of, print_json


class Format(enum.StrEnum):
    """What is printed."""

    ARGS = "args"
    LIBVIRT = "libvirt-xml"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("blockdev")(blockdev)


def blockdev(
    disk: Annotated[str, typer.Argument(metavar="DISK", help="The disk.")],
    socket: Annotated[Path, typer.Option("--socket", help="Where the host's exporter listens.")] = Path(
        "/run/chainwright/nbd.sock"
    ),
    output: Annotated[Format, typer.Option("--format", help="args, libvirt-xml or json.")] = Format.ARGS,
    overlay: Annotated[
        Path | None, typer.Option("--overlay", help="A local qcow2 file for the VM's writes, on top.")
    ] = None,
    chains: Annotated[
        Path | None, typer.Option("--chains", help="Also write the chain file into this folder of the exporter's.")
    ] = None,
    exporter: Annotated[
        str | None, typer.Option("--exporter", metavar="REGION", help="Print the exporter's command line.")
    ] = None,
    fleet_file: FleetOption = None,
) -> None:
    """Print explicit -blockdev arguments for the disk's chain: qcow2 over nbd, nothing probed, no name followed."""
    from tasks.stages import blockdev as stage

    fleet = fleet_of(fleet_file)
    if exporter:
        typer.echo(shlex.join(stage.exporter_command(fleet, exporter, socket, chains)))
        return
    if chains:
        stage.write_chain(fleet, disk, chains)
    found = stage.describe(fleet, disk, socket, overlay)
    if output is Format.JSON:
        print_json(found)
    elif output is Format.LIBVIRT:
        typer.echo(found["libvirt_xml"])
    else:
        pairs = zip(found["arguments"][0::2], found["arguments"][1::2], strict=True)
        typer.echo(" \\\n".join(f"{name} {shlex.quote(value)}" for name, value in pairs))
