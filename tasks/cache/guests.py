"""Are the cache's guests being served well? Warming asks before every slice, and waits when they are not.

Two signs, both of the last seconds: guests' misses in the access log (they wait for other regions, and warming would
compete for the same link), and how long the cache takes to answer a small hit, measured from here, against how long it
took before.
"""

import statistics
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks import clock
from tasks.cache.access_log import parse_cache_line

_LOOK_SECONDS = 0.5  # how often the signs are read
_WINDOW_SECONDS = 5.0
_TAIL_BYTES = 4 << 20  # of the log per look: more than that is many thousand reads, the rest is passed over
_BASELINE = 20  # answers that make the "before"
_FLOOR_SECONDS = 0.002  # below this an answer is not slow, whatever it was before


@dataclass(frozen=True, slots=True)
class GuestLimits:
    """When warming gives way."""

    latency_factor: float = 1.2
    misses_per_second: float = 20.0
    max_pause_seconds: float = 600.0


class GuestWatch:
    """Thread-safe. `probe` measures one small hit in seconds (None: nothing to measure yet)."""

    def __init__(self, log: Path | None, probe: Callable[[], float | None], limits: GuestLimits) -> None:
        self._log = log
        self._probe = probe
        self._limits = limits
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._offset: tuple[int, int] | None = None  # inode, bytes
        self._misses: deque[float] = deque()
        self._before: list[float] = []
        self._recent: deque[float] = deque(maxlen=5)
        self._paused_at: float | None = None
        self.paused_seconds = 0.0

    def share(self) -> float:
        """How much of the allowed concurrency to use now: 1 idle, 0 pause, between: guests are slower than before."""
        with self._lock:
            now = clock.monotonic()
            if now - self._looked >= _LOOK_SECONDS:
                self._looked = now
                self._read_log(now)
                self._measure()
            while self._misses and self._misses[0] < now - _WINDOW_SECONDS:
                self._misses.popleft()
            busy = len(self._misses) > self._limits.misses_per_second * _WINDOW_SECONDS
            self._note_pause(now, busy)
            return 0.0 if busy else self._latency_share()

    def _note_pause(self, now: float, busy: bool) -> None:
        if busy and self._paused_at is None:
            self._paused_at = now
        elif not busy and self._paused_at is not None:
            self.paused_seconds += now - self._paused_at
            self._paused_at = None

    def wait(self) -> bool:
        """Wait until guests leave room. False when that took longer than the longest pause."""
        started = clock.monotonic()
        while self.share() == 0.0:
            clock.sleep(_LOOK_SECONDS)
            if clock.monotonic() - started > self._limits.max_pause_seconds:
                return False
        return True

    def _latency_share(self) -> float:
        if len(self._before) < _BASELINE or not self._recent:
            return 1.0
        usual = max(statistics.median(self._before), _FLOOR_SECONDS)
        ratio = statistics.median(self._recent) / usual
        limit = self._limits.latency_factor
        if ratio <= limit:
            return 1.0
        return max(0.1, limit / ratio / 2)

    def _measure(self) -> None:
        taken = self._probe()
        if taken is None:
            return
        if len(self._before) < _BASELINE:
            self._before.append(taken)
        self._recent.append(taken)

    def _read_log(self, now: float) -> None:
        if self._log is None:
            return
        try:
            with self._log.open("rb") as file:
                status = self._log.stat()
                inode, offset = self._offset or (status.st_ino, status.st_size)
                if inode != status.st_ino or offset > status.st_size:
                    offset = 0
                file.seek(max(offset, status.st_size - _TAIL_BYTES))
                data = file.read(_TAIL_BYTES)
                end = data.rfind(b"\n") + 1
                self._offset = (status.st_ino, file.tell() - len(data) + end)
        except OSError:
            return  # the log is being rotated, or lives on another host
        for line in data[:end].splitlines():
            if _is_guest_miss(line):
                self._misses.append(now)


def _is_guest_miss(line: bytes) -> bool:
    try:
        access = parse_cache_line(line)
    except ValueError:
        return False
    return access is not None and access.client in {"guest", ""} and access.cache_status == "miss" and access.main
