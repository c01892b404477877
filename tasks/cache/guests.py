"""Are the cache's guests being served well? Warming asks before every slice, and gives way when they are not.

Two signs, both of the last seconds: guests' misses in the access log (they wait for other regions, and warming would
compete for the same link), and how long the cache takes to answer a small hit. That is measured from here, before the
first slice and in every pause (what is usual), and while warming runs.

    share of the allowed concurrency, looked at every half second
    nobody reads            -> all of it
    guests wait for misses  -> none, until that is over
    guests read             -> from little, doubled while answers are as quick as usual, up to `SHARE_BESIDE_GUESTS`;
                               halved when they are slower, and when that does not help, a pause: then what is usual is
                               measured anew
"""

import itertools
import statistics
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks import clock
from tasks.cache.access_log import Access, parse_cache_line

_LOOK_SECONDS = 0.5  # how often the signs are read
_WINDOW_SECONDS = 5.0
_TAIL_BYTES = 4 << 20  # of the log per look: more than that is many thousand reads, the rest is passed over
_PROBES = 4  # per look: each is a read of the same cache, beside the guests'
_KEPT_PROBES = 20
_FLOOR_SECONDS = 0.002  # below this an answer is not slow, whatever is usual
_HIT = b'"cache":"HIT"'  # what nginx writes of a hit; a name cannot hold it: quotes are escaped
_LEAST_SHARE = 1 / 64  # one thread, whatever the concurrency
SHARE_BESIDE_GUESTS = 1 / 16  # one slice at a time with the default concurrency (docs/benchmarks/cache.md)


@dataclass(frozen=True, slots=True)
class GuestLimits:
    """When warming gives way."""

    latency_factor: float = 1.2
    misses_per_second: float = 20.0
    max_pause_seconds: float = 600.0


class GuestWatch:
    """Thread-safe. `probe` measures one small hit in seconds (None: nothing to measure yet).

    Without a log (it is on another host) guests are taken to read all the time.
    """

    def __init__(self, log: Path | None, probe: Callable[[], float | None], limits: GuestLimits) -> None:
        self._log = log
        self._probe = probe
        self._limits = limits
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._offset: tuple[int, int] | None = None  # inode, bytes
        self._misses: deque[float] = deque()
        self._guest_seen = float("-inf") if log else float("inf")
        self._usual: deque[float] = deque(maxlen=_KEPT_PROBES)
        self._recent: deque[float] = deque(maxlen=_KEPT_PROBES)
        self._share = _LEAST_SHARE
        self._paused_at: float | None = None
        self.paused_seconds = 0.0

    def share(self) -> float:
        """How much of the allowed concurrency to use now: 1 all, 0 pause."""
        with self._lock:
            now = clock.monotonic()
            if not self._usual and self._share == _LEAST_SHARE:  # at the start: hardly anything of ours is on its way
                self._measure(self._usual)
            if now - self._looked >= _LOOK_SECONDS:
                self._looked = now
                self._look(now)
            return self._share

    @property
    def guests_read(self) -> bool:
        """As of the last look."""
        return self._share < 1.0

    def wait(self) -> bool:
        """Wait until guests leave room. False when that took longer than the longest pause."""
        started = clock.monotonic()
        while self.share() == 0.0:
            clock.sleep(_LOOK_SECONDS)
            if clock.monotonic() - started > self._limits.max_pause_seconds:
                return False
        return True

    def _look(self, now: float) -> None:
        self._read_log(now)
        if not self._share or self._usual:
            self._measure(self._recent if self._share else self._usual)
        while self._misses and self._misses[0] < now - _WINDOW_SECONDS:
            self._misses.popleft()
        if len(self._misses) > self._limits.misses_per_second * _WINDOW_SECONDS:
            self._pause()
        elif now - self._guest_seen > _WINDOW_SECONDS:
            self._share = 1.0
        else:
            self._beside_guests()
        self._note_pause(now)

    def _beside_guests(self) -> None:
        if not self._share:
            self._share = _LEAST_SHARE
        elif self._share > SHARE_BESIDE_GUESTS:  # guests came: what is usual was measured under our own load
            self._pause()
        elif not self._slow():
            self._share = min(SHARE_BESIDE_GUESTS, 2 * self._share)
        elif self._share > _LEAST_SHARE:
            self._share /= 2
            self._recent.clear()
        else:
            self._pause()

    def _pause(self) -> None:
        self._share = 0.0
        self._usual.clear()
        self._recent.clear()

    def _slow(self) -> bool:
        if not self._recent or not self._usual:
            return False
        return _high(self._recent) > self._limits.latency_factor * max(_high(self._usual), _FLOOR_SECONDS)

    def _measure(self, into: deque[float]) -> None:
        for _ in range(_PROBES):
            taken = self._probe()
            if taken is None:
                return
            into.append(taken)

    def _note_pause(self, now: float) -> None:
        if not self._share and self._paused_at is None:
            self._paused_at = now
        elif self._share and self._paused_at is not None:
            self.paused_seconds += now - self._paused_at
            self._paused_at = None

    def _read_log(self, now: float) -> None:
        if self._log is None:
            return
        try:
            with self._log.open("rb") as file:
                status = self._log.stat()
                inode, offset = self._offset or (status.st_ino, 0)
                if inode != status.st_ino or offset > status.st_size:
                    offset = 0
                file.seek(max(offset, status.st_size - _TAIL_BYTES))
                data = file.read(_TAIL_BYTES)
                end = data.rfind(b"\n") + 1
                self._offset = (status.st_ino, file.tell() - len(data) + end)
        except OSError:
            return  # the log is being rotated, or lives on another host
        wall = clock.now().timestamp()
        for access in _telling(data[:end].splitlines()):
            moment = now - max(0.0, wall - access.time)
            self._guest_seen = max(self._guest_seen, moment)
            if access.cache_status == "miss":
                self._misses.append(moment)


def _high(seconds: deque[float]) -> float:
    """What four of five stay below."""
    return statistics.quantiles(seconds, n=5)[-1] if len(seconds) > 1 else seconds[0]


def _telling(lines: Sequence[bytes]) -> Iterator[Access]:
    """Guests' misses, and the last of their hits: of a busy cache's many lines most say nothing new."""
    hits = [line for line in lines if _HIT in line]
    yield from filter(None, map(_guest_read, (line for line in lines if _HIT not in line)))
    yield from itertools.islice(filter(None, map(_guest_read, reversed(hits))), 1)


def _guest_read(line: bytes) -> Access | None:
    try:
        access = parse_cache_line(line)
    except ValueError:
        return None
    return access if access is not None and access.client in {"guest", ""} and access.main else None
