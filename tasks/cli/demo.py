"""`chainwright demo`: the whole loop on one machine, with its proof."""

import typing

import typer
from rich.table import Table

from tasks.cli.common import EXIT_FAILED, JsonOption, err, out, print_json, program
from tasks.cli.up import AirflowPortOption, CachePortOption, S3PortOption, StateOption
from tasks.units import MIB, human_bytes, human_seconds

if typing.TYPE_CHECKING:
    from tasks.embedded.demo import DemoResult
    from tasks.embedded.fleet import Login


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command()
    def demo(
        state_dir: StateOption = None,
        s3_port: S3PortOption = None,
        cache_port: CachePortOption = None,
        airflow_port: AirflowPortOption = None,
        json: JsonOption = False,
    ) -> None:
        """Start the fleet, import real chains, let Airflow shorten them, and prove that no disk changed."""
        from tasks.embedded import fleet
        from tasks.embedded.demo import Demo
        from tasks.embedded.description import choose_ports
        from tasks.embedded.state import state_dir as resolve
        from tasks.settings import load_fleet

        state = resolve(state_dir)
        ports = choose_ports(s3=s3_port, cache=cache_port, airflow=airflow_port)
        result = Demo(state, ports, lambda text: err.print(f"[dim]{text}[/dim]")).run()
        login = fleet.login_of(state, load_fleet(state.fleet_file))
        if json:
            print_json({"result": result, "login": login})
        else:
            _print(result, login)
        if not all(line.unchanged for line in result.lines):
            raise typer.Exit(EXIT_FAILED)


def _print(result: "DemoResult", login: "Login") -> None:
    out.print()
    out.print(_heads(result))
    if result.actions:
        out.print()
        out.print(_actions(result))
    out.print()
    for line in result.lines:
        verdict = "unchanged" if line.unchanged else "[red]CHANGED[/red]"
        out.print(f"{line.disk.disk_id:14} {verdict}  sha256 {line.after.sha256}")
    out.print("(same hash of: the local files before import; the store before; the store after; an export after)")
    out.print()
    out.print(f"build-1 cold, after its cache was warmed by cache_warm: {result.warm_seconds:.2f} s")
    out.print(f"Took {human_seconds(result.seconds)}. The fleet is up.")
    out.print(f"Airflow: {login.url}  user {login.user}, password {login.password}")
    for url in result.run_urls:
        out.print(f"  run: {url}")
    out.print(f"Next: {program()} status | plan | query | down. Run the demo again at any time.")


def _heads(result: "DemoResult") -> Table:
    table = Table(box=None)
    for name in ("head", "layers", "stored MiB", "cold read s", "requests", "origin MiB"):
        table.add_column(name, no_wrap=True)
    for line in result.lines:
        before, after = line.before, line.after
        table.add_row(
            line.disk.disk_id,
            f"{before.layers} → {after.layers}",
            f"{before.stored_bytes / MIB:.1f} → {after.stored_bytes / MIB:.1f}",
            f"{before.cold_seconds:.2f} → {after.cold_seconds:.2f}",
            f"{before.cold_requests} → {after.cold_requests}",
            f"{before.cold_origin_bytes / MIB:.1f} → {after.cold_origin_bytes / MIB:.1f}",
        )
    return table


def _actions(result: "DemoResult") -> Table:
    table = Table("action on", "engine", "outcome", "layers", "through the worker", "task", box=None)
    for line in result.actions:
        layers, moved = f"{line.layers_before} → {line.layers_after}", human_bytes(line.moved_bytes)
        table.add_row(line.disk_id, line.engine, line.outcome, layers, moved, f"{line.seconds:.1f} s")
    return table
