"""What warming has fetched into a region's cache, by day and by run: one file for all processes of a host.

The access log says what guests brought in; what warming brought in fills the cache just as well.
"""

import fcntl
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import clock

_DAY_SECONDS = 86400
_KEPT_DAYS = 60
_KEPT_RUNS = 100
RUN_LIMIT = "the run's limit of bytes"  # a note: what bounds the warming

ByDay = Sequence[tuple[int, int]]  # (days ago, bytes)


@dataclass(slots=True)
class Record:
    """Bytes by day since 1970, and by run, the latest run last."""

    days: dict[int, int] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)

    def by_day(self, today: int, *, without: int = 0) -> list[tuple[int, int]]:
        """Newest first; `without` so many bytes of today's."""
        spared = {today: without}
        return [(today - day, count - spared.get(day, 0)) for day, count in sorted(self.days.items(), reverse=True)]


class WarmLedger:
    """`<folder>/ledger`. A damaged file counts as an empty one. Delete it when the cache has been emptied."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "ledger"

    def add(self, run: str, count_bytes: int) -> None:
        """So many bytes were fetched now."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            record = _parse(_content(descriptor))
            today = _today()
            record.days[today] = record.days.get(today, 0) + count_bytes
            record.runs[run] = record.runs.pop(run, 0) + count_bytes
            text = _text(record, today)
            os.pwrite(descriptor, text, 0)
            os.ftruncate(descriptor, len(text))
        finally:
            os.close(descriptor)

    def read(self) -> Record:
        """As of now."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return Record()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            return _parse(_content(descriptor))
        finally:
            os.close(descriptor)

    def by_day(self, *, without: int = 0) -> list[tuple[int, int]]:
        """(days ago, bytes), newest first."""
        return self.read().by_day(_today(), without=without)


class SharedBudget:
    """May a run fetch more? `run_bytes` bounds all disks of the run together; `room` what goes into the cache.

    `room` gets what everybody else's warming fetched, by day, and says how much this disk's may, and why not more.
    """

    def __init__(self, ledger: WarmLedger, run: str, run_bytes: int, room: Callable[[ByDay], tuple[int, str]]) -> None:
        self._ledger = ledger
        self._run = run
        self._run_bytes = run_bytes
        self._room = room

    def refusal(self, fetched_bytes: int, coming_bytes: int) -> str:
        """Why `coming_bytes` more must not be fetched; "" if they may. `fetched_bytes` are this disk's so far."""
        record = self._ledger.read()
        if record.runs.get(self._run, 0) + coming_bytes > self._run_bytes:
            return RUN_LIMIT
        allowed, note = self._room(record.by_day(_today(), without=fetched_bytes))
        return note if fetched_bytes + coming_bytes > allowed else ""

    def spend(self, count_bytes: int) -> None:
        """They were fetched."""
        self._ledger.add(self._run, count_bytes)


def _today() -> int:
    return int(clock.now().timestamp()) // _DAY_SECONDS


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _parse(content: bytes) -> Record:
    try:
        raw: Any = json.loads(content or b"{}")
        days = {int(day): int(count) for day, count in raw.get("days", {}).items()}
        return Record(days, {str(run): int(count) for run, count in raw.get("runs", {}).items()})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return Record()


def _text(record: Record, today: int) -> bytes:
    days = {day: count for day, count in record.days.items() if day > today - _KEPT_DAYS}
    runs = dict(list(record.runs.items())[-_KEPT_RUNS:])
    return json.dumps({"days": days, "runs": runs}, separators=(",", ":")).encode()
