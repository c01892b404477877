"""`chainwright status`: what of the embedded fleet runs, and where."""

import typer
from rich.table import Table

from tasks.cli.common import EXIT_FAILED, JsonOption, out, print_json
from tasks.cli.up import StateOption


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command()
    def status(state_dir: StateOption = None, json: JsonOption = False) -> None:
        """Every part with its process, health, address and log. Exit code 1 if a part is not healthy."""
        from tasks.embedded import fleet
        from tasks.embedded.state import state_dir as resolve

        parts = fleet.status(resolve(state_dir))
        if json:
            print_json(parts)
        else:
            table = Table("part", "pid", "state", "address", box=None)
            for part in parts:
                state = "healthy" if part.healthy else ("not answering" if part.pid else "down")
                table.add_row(part.part, str(part.pid or ""), state, part.url)
            out.print(table)
            for part in parts:
                if not part.healthy:
                    out.print(f"{part.part}: see {part.log}")
        if not all(part.healthy for part in parts):
            raise typer.Exit(EXIT_FAILED)
