"""`chainwright doctor`: is this installation fit to be trusted with disks?"""

from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from tasks.cli.common import EXIT_FAILED, FleetOption, JsonOption, err, fleet_of, out, print_json

if TYPE_CHECKING:
    from tasks.stages.doctor import Diagnosis


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command()
    def doctor(fleet: FleetOption = None, json: JsonOption = False) -> None:
        """Probe every store for real conditional writes (races included), the tools and the work directory."""
        from tasks.stages import doctor as stage

        described = fleet_of(fleet)
        with err.status("examining") as spinner:
            found = stage.examine(described, lambda name: spinner.update(f"examining {name}"))
        if json:
            print_json({"ok": found.ok, "subjects": found.subjects})
        else:
            out.print(_table(found))
        for subject in found.subjects:
            for check in subject.failures:
                words = " ".join(f"{subject.name}: {check.name}: {check.detail}".split())
                err.print(f"[red]chainwright:[/red] {escape(words)}")
        if not found.ok:
            raise typer.Exit(EXIT_FAILED)


def _table(found: "Diagnosis") -> Table:
    table = Table(box=None, show_header=False)
    for subject in found.subjects:
        for check in subject.checks:
            mark = "[green]ok[/green]" if check.ok else ("[red]NO[/red]" if check.required else "[yellow]warn[/yellow]")
            table.add_row(escape(subject.name), escape(check.name), mark, escape(check.detail))
    return table
