"""`chainwright down`: stop the embedded fleet."""

import typer

from tasks.cli.common import JsonOption, err, out, print_json
from tasks.cli.up import StateOption


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command()
    def down(state_dir: StateOption = None, json: JsonOption = False) -> None:
        """End every process that `up` started, and nothing else. Data stays."""
        from tasks.embedded import fleet
        from tasks.embedded.state import state_dir as resolve

        state = resolve(state_dir)
        with err.status("stopping"):
            ended = fleet.down(state)
        if json:
            print_json({"ended_processes": ended, "state_dir": str(state.root)})
        else:
            out.print(f"Stopped ({ended} processes). Data stays in {state.root}." if ended else "Nothing was running.")
