"""Threads: those that each hold one connection to the cache and do jobs on it, and those that share out a list."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, TypeVar

from tasks.cache.nbd.http_range import RangeConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Job = Callable[[RangeConnection], object]

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

DEMAND, PREFETCH, NOTE = 0, 1, 2  # how urgent


class Workers:
    """Started when they are needed, up to `threads`; the most urgent job comes first. What a job raises is logged."""

    def __init__(self, threads: int, connect: Callable[[], RangeConnection]) -> None:
        self._threads = threads
        self._connect = connect
        self._lock = threading.Lock()
        self._queue: queue.PriorityQueue[tuple[int, int, Job]] = queue.PriorityQueue()
        self._sequence = 0
        self._started = 0
        self._unfinished = 0

    def submit(self, urgency: int, job: Job) -> None:
        """Do it soon, on some thread."""
        with self._lock:
            self._sequence += 1
            self._unfinished += 1
            self._queue.put((urgency, self._sequence, job))
            if self._unfinished > self._started and self._started < self._threads:
                threading.Thread(target=self._work, name=f"fetch-{self._started}", daemon=True).start()
                self._started += 1

    def _work(self) -> None:
        connection = self._connect()
        while True:
            job = self._queue.get()[2]
            try:
                job(connection)
            except Exception:  # the thread is needed for the next one
                logger.exception("a job of the exporter failed")
                connection.close()
            with self._lock:
                self._unfinished -= 1


def share_out(items: Sequence[Item], threads: int, name: str, goes_on: Callable[[Item], bool]) -> None:
    """Do all items, in their order, on so many threads, and return at once. A thread ends where one says False."""
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)

    def work() -> None:
        while True:
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            if not goes_on(item):
                return

    for _ in range(min(threads, len(items))):
        threading.Thread(target=work, name=name, daemon=True).start()
