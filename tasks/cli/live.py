"""`chainwright live DISK`: block-stream in the running VM, and control of the job."""

from typing import Annotated

import typer

from tasks.cli.common import FleetOption, JsonOption, fleet_of, out, print_json
from tasks.cli.progress import byte_progress


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command()
    def live(
        disk: Annotated[str, typer.Argument(help="A running disk.")],
        base: Annotated[str | None, typer.Option(help="Layer to rest on; default: the deepest that is safe.")] = None,
        speed: Annotated[int, typer.Option(min=0, help="Bytes per second; 0: no limit.")] = 0,
        dry_run: Annotated[bool, typer.Option("--dry-run/--real", help="Only say which base it would be.")] = True,
        job: Annotated[str | None, typer.Option(help="pause, resume or cancel the stream that runs.")] = None,
        fleet: FleetOption = None,
        json: JsonOption = False,
    ) -> None:
        """Shorten the chain of a running disk, in its VM, over QMP."""
        from tasks.stages import live as stage

        conf = fleet_of(fleet)
        if job is not None:
            stage.control(conf, disk, job)
            done = {"disk_id": disk, "job": job}
        elif dry_run:
            done = stage.choose_base(conf, disk)
        else:
            with byte_progress(visible=not json) as tell:
                done = stage.stream(
                    conf, disk, base, speed_bytes=speed, on_progress=lambda at, total: tell("stream", at, total)
                )
        if json:
            print_json(done)
        else:
            out.print(", ".join(f"{name} {value}" for name, value in done.items()), markup=False)
