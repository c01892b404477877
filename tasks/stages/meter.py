"""Bytes done out of bytes in all, told to whoever draws the bar."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

Progress = Callable[[str, int, int], None]  # phase, bytes done, bytes in all


def silent(phase: str, done: int, total: int) -> None:
    """A progress that nobody watches."""


@dataclass(slots=True)
class Meter:
    """Adds up one phase; threads may share it."""

    phase: str
    total: int
    tell: Progress
    done: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        """Count more bytes."""
        with self._lock:
            self.done += count
            self.tell(self.phase, self.done, self.total)
