"""`chainwright head show|tip|start|snapshot|stop|clone DISK`: the life cycle of a disk's head."""

import platform
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tasks.chain.head import Head, HeadKind, head_to_json
from tasks.cli.common import FleetOption, JsonOption, fleet_of, out, print_json
from tasks.cli.progress import byte_progress

Disk = Annotated[str, typer.Argument(help="Disk id.")]
Region = Annotated[str | None, typer.Option(help="Region of the new layers; default: the disk's home.")]
Attempt = Annotated[str | None, typer.Option("--attempt", help="Id of this try: trying again with it is harmless.")]

app = typer.Typer(help="Show and change a disk's head.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    """Add the group."""
    root.add_typer(app, name="head")


@app.command()
def show(disk: Disk, fleet: FleetOption = None, json: JsonOption = False) -> None:
    """Tip, state, lease and the last action of a disk."""
    from tasks.stages import heads

    version = heads.show(fleet_of(fleet), disk)
    _print(version.head, version.etag, json)


@app.command()
def start(
    disk: Disk,
    host: Annotated[str, typer.Option(help="Host that runs the VM; default: this one.")] = "",
    qmp: Annotated[str | None, typer.Option(help="The VM's QMP address: unix:/path or tcp:host:port.")] = None,
    overlay: Annotated[
        Path | None, typer.Option(help="The local file that the VM writes (`head tip` makes it).")
    ] = None,
    attempt: Attempt = None,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Mark the disk as running. Never waits for maintenance: the lease of an action is cleared and its result lost."""
    from tasks.stages import heads

    version = heads.start(fleet_of(fleet), disk, host or platform.node(), qmp, attempt, overlay)
    _print(version.head, version.etag, json)


@app.command()
def tip(
    disk: Disk,
    file: Annotated[Path, typer.Argument(help="The new file: an empty overlay for the VM to write.")],
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Create a local tip over the head, before a VM starts."""
    from tasks.stages import lifecycle

    made = lifecycle.create_tip(fleet_of(fleet), disk, file)
    if json:
        print_json(made)
    else:
        out.print(f"{file}: empty, over layer {made['backing']} of {disk}", markup=False)


@app.command()
def snapshot(
    disk: Disk,
    name: Annotated[str, typer.Argument(help="Id of the snapshot head.")],
    region: Region = None,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Snapshot a running disk over QMP and upload what became read-only while the VM runs. On the VM's host."""
    from tasks.stages import lifecycle

    with byte_progress(visible=not json) as progress:
        made = lifecycle.snapshot(fleet_of(fleet), disk, name, region=region, progress=progress)
    if json:
        print_json(made)
    else:
        out.print(f"{name}: snapshot of {disk} on layer {made['tip']}; the VM writes {made['overlay']}", markup=False)


@app.command()
def stop(
    disk: Disk,
    overlay: Annotated[
        Path | None, typer.Option(help="The last file that the VM wrote; default: as the head names it.")
    ] = None,
    discard: Annotated[bool, typer.Option("--discard", help="Throw away what the VM wrote since its start.")] = False,
    region: Region = None,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Upload what the VM wrote and mark the disk as idle. On the VM's host, after the VM has ended."""
    from tasks.stages import lifecycle

    if discard:
        version = lifecycle.discard(fleet_of(fleet), disk)
        _print(version.head, version.etag, json)
        return
    with byte_progress(visible=not json) as progress:
        done = lifecycle.stop(fleet_of(fleet), disk, overlay, region=region, progress=progress)
    if json:
        print_json(done)
    else:
        out.print(f"{disk}: idle on layer {done['tip']}, {len(done['layers'])} layers uploaded", markup=False)


@app.command()
def clone(
    disk: Disk,
    new_disk: Annotated[str, typer.Argument(help="Id of the new head.")],
    snapshot: Annotated[bool, typer.Option("--snapshot", help="A snapshot head: never started, only cloned.")] = False,
    region: Annotated[str | None, typer.Option(help="Home region; default: the source's.")] = None,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """A second head on the same tip layer; copies no data."""
    from tasks.stages import heads

    kind: HeadKind = "snapshot" if snapshot else "disk"
    version = heads.clone(fleet_of(fleet), disk, new_disk, kind=kind, region=region)
    _print(version.head, version.etag, json)


def _print(head: Head, etag: str, json: bool) -> None:
    if json:
        print_json({**head_to_json(head), "etag": etag})
        return
    where = f" on {head.host or '?'}{f' ({head.qmp})' if head.qmp else ''}" if head.state == "running" else ""
    out.print(escape(f"{head.disk_id}: {head.kind}, {head.state}{where}, home {head.home_region}"))
    out.print(f"  tip         {head.tip}")
    out.print(f"  generation  {head.generation}, written {head.updated_at}")
    if head.lease is not None:
        out.print(escape(f"  lease       action {head.lease.action_id} until {head.lease.expires_at}"))
    if head.action_id is not None:
        out.print(escape(f"  last action {head.action_id}"))
