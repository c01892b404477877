"""How much of the processor went to processes that are not of this benchmark."""

import contextlib
import time
from types import TracebackType

import psutil


class Others:
    """`with Others() as others: …; others.cores` of this process's family excluded. Kernel threads count as others."""

    def __enter__(self) -> "Others":
        self._began, self._before = time.monotonic(), _seconds()
        self.cores = 0.0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        after = _seconds()
        mine = {child.pid for child in psutil.Process().children(recursive=True)} | {psutil.Process().pid}
        spent = sum(after[pid] - self._before.get(pid, 0.0) for pid in after if pid not in mine)
        self.cores = spent / (time.monotonic() - self._began)


def _seconds() -> dict[int, float]:
    """Processor seconds by process, those of its ended children included."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found[process.pid] = sum(process.cpu_times()[:4])
    return found
