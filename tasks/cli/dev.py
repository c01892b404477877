"""`chainwright dev …`: tools for people who work on Chainwright or try it without a fleet."""

from pathlib import Path
from typing import Annotated

import typer

from tasks.cli.common import JsonOption, out, print_json

dev = typer.Typer(help="For developers and set-ups.", no_args_is_help=True)


@dev.callback()
def _dev() -> None:
    """A group of its own."""


@dev.command("generate-fleet")
def generate_fleet(
    directory: Annotated[Path, typer.Argument(help="A new or empty folder for the manifest.")],
    size: Annotated[str, typer.Option(help="XS, S, M or L (1e6 layers, 1e8 extents), or a number of layers.")] = "S",
    seed: Annotated[int, typer.Option(help="The same seed makes the same fleet.")] = 7,
    hostile_names: Annotated[bool, typer.Option(help="Names and texts that break careless pages and SQL.")] = False,
    numbered_by_time: Annotated[
        bool, typer.Option(help="Number layers by age, as a fleet that grew has them.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write a made-up fleet of realistic shape as a manifest folder: `chainwright query --manifest DIRECTORY`."""
    from tasks import clock
    from tasks.analytics.fleetgen import SIZES, FleetShape, generate_fleet

    if size not in SIZES and not size.isdigit():
        raise typer.BadParameter(f"{size!r} is none of {', '.join(SIZES)} and no number", param_hint="--size")
    until = clock.now().replace(minute=0, second=0, microsecond=0)
    shape = FleetShape(
        SIZES.get(size) or int(size),
        seed,
        until=until,
        hostile_names=hostile_names,
        numbered_by_time=numbered_by_time,
    )
    rows = generate_fleet(directory, shape)
    if json:
        print_json({"directory": str(directory), "rows": rows})
        return
    for name, count in rows.items():
        out.print(f"{name:12} {count:>12,} rows")


@dev.command("compile")
def compile_kernels() -> None:
    """Compile the kernels of the findings now (half a minute, once), not in the first plan."""
    import tempfile

    from tasks.analytics.derive import derive
    from tasks.analytics.fleetgen import SIZES, FleetShape, generate_fleet

    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest"
        generate_fleet(manifest, FleetShape(SIZES["XS"]))
        derive(manifest)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(dev, name="dev")
