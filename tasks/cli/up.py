"""`chainwright up`: start the embedded fleet."""

from pathlib import Path
from typing import Annotated

import typer

from tasks.cli.common import JsonOption, err, out, print_json, program

StateOption = Annotated[Path | None, typer.Option("--state-dir", help="Where the fleet lives; default: .chainwright.")]
S3PortOption = Annotated[int | None, typer.Option(help="First of nine ports of the object store.")]
CachePortOption = Annotated[int | None, typer.Option(help="First of the caches' ports, one per region.")]
AirflowPortOption = Annotated[int | None, typer.Option(help="Airflow's UI and API; tasks use the next port.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command()
    def up(
        state_dir: StateOption = None,
        s3_port: S3PortOption = None,
        cache_port: CachePortOption = None,
        airflow_port: AirflowPortOption = None,
        json: JsonOption = False,
    ) -> None:
        """Start three regions on this machine: object store, caches, Airflow. Harmless when it runs."""
        from tasks.embedded import fleet
        from tasks.embedded.description import choose_ports
        from tasks.embedded.state import state_dir as resolve

        state = resolve(state_dir)
        ports = choose_ports(s3=s3_port, cache=cache_port, airflow=airflow_port)
        with err.status("starting") as spinner:
            described = fleet.up(state, ports, lambda part: spinner.update(f"starting: {part}"))
        login = fleet.login_of(state, described)
        if json:
            print_json(login)
        else:
            out.print(f"The fleet is up. Airflow: {login.url}  user {login.user}, password {login.password}")
            out.print(f"State: {state.root}  ({program()} status, {program()} down)")
