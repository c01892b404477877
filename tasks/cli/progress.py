"""Progress bars of verbs that move bytes: one bar per phase, on standard error, only on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from tasks.cli.common import err


@contextmanager
def byte_progress(visible: bool = True) -> Iterator[Callable[[str, int, int], None]]:
    """Gives `tell(phase, bytes done, bytes in all)`."""
    columns = (TextColumn("{task.description:9}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bars = Progress(*columns, TimeRemainingColumn(), console=err, disable=not (visible and err.is_terminal))
    tasks: dict[str, TaskID] = {}

    def tell(phase: str, done: int, total: int) -> None:
        if phase not in tasks:
            tasks[phase] = bars.add_task(phase, total=total)
        bars.update(tasks[phase], completed=done, total=total)

    with bars:
        yield tell
