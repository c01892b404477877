"""Fetches slices into a regional cache through its ordinary URL, in the order given, many at once.

A request for a slice's last byte makes the cache fetch and keep the whole slice, and answers when it has; of a slice
that is there already it costs one byte. So asking is both the question "is it cached?" and the order to fetch it, a run
that was interrupted goes on by asking again, and runs that want the same slice cost one fetch (the cache's own lock).
"""

import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tasks import clock
from tasks.cache.guests import GuestWatch
from tasks.cache.limits import SharedLimits
from tasks.cache.regional import RegionalCache, SliceRef
from tasks.errors import ChainwrightError, NotFound
from tasks.units import SLICE_BYTES, human_bytes, human_seconds

logger = logging.getLogger(__name__)

_PROGRESS_SECONDS = 10.0
_IDLE_SECONDS = 2.0  # between two looks of a thread that waits for a share: each one wakes a core that guests use
OVER_LIMIT = "over the limit of bytes"  # a result's note
_MAX_FAILURES = 20  # in one region of origin: then the rest of its slices is left for the next run


@dataclass(slots=True)
class WarmResult:
    """What a run did. `first_seconds` is the time to the first fetched slice."""

    fetched: int = 0
    fetched_bytes: int = 0
    present: int = 0
    left_out: int = 0  # over a limit of bytes, or guests were busy for too long
    failed: int = 0
    seconds: float = 0.0
    first_seconds: float | None = None
    paused_seconds: float = 0.0
    errors: dict[str, str] = field(default_factory=dict)  # by region of origin: the last one
    note: str = ""


class Claims:
    """Slices that this process has asked for already: several runs may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[tuple[str, int]] = set()

    def take(self, one: SliceRef) -> bool:
        """True for the first who asks."""
        with self._lock:
            before = len(self._taken)
            self._taken.add((one.layer_id, one.number))
            return len(self._taken) > before


class Warmer:
    """One run against one cache."""

    def __init__(
        self,
        cache: RegionalCache,
        limits: SharedLimits,
        watch: GuestWatch,
        *,
        concurrency: int,
        max_bytes: int,
        claims: "Claims | None" = None,
    ) -> None:
        self._cache = cache
        self._limits = limits
        self._watch = watch
        self._concurrency = concurrency
        self._max_bytes = max_bytes
        self._total = 0
        self._lock = threading.Lock()
        self._taking = threading.Lock()
        self._result = WarmResult()
        self._claims = claims or Claims()
        self._failures: dict[str, int] = {}
        self._busy = 0
        self._started = self._told = clock.monotonic()
        self._stop = self._gave_up = False
        self._ended = threading.Event()

    def run(self, slices: Iterable[SliceRef]) -> WarmResult:
        """Ask for every slice once, however often it is named; may be called again: the result is of all calls.

        Errors of single slices are counted, not raised. An error of `slices` itself (it may read tables while it
        goes) ends the run.
        """
        source = iter(slices)
        self._ended.clear()
        trouble: list[BaseException] = []
        threads = [
            threading.Thread(target=self._work, args=(number, source, trouble), daemon=True)
            for number in range(self._concurrency)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if trouble:
            raise trouble[0]
        self._result.seconds = clock.monotonic() - self._started
        self._result.paused_seconds = self._watch.paused_seconds
        return self._result

    def expect(self, total: int) -> None:
        """How many slices there are in all, once that is known: for the progress and the time that is left."""
        self._total = total

    def fetch_now(self, one: SliceRef) -> None:
        """Fetch one slice before the others, because what comes next is read from it; counted like the others."""
        if self._claims.take(one):
            with self._lock:
                self._busy += 1
            self._fetch(one)

    def _work(self, number: int, source: Iterator[SliceRef], trouble: list[BaseException]) -> None:
        try:
            while self._may_go_on(number) and (one := self._next(source)) is not None:
                self._fetch(one)
                self._tell()
        except BaseException as error:  # noqa: BLE001 - raised again by `run`
            trouble.append(error)
            self._stop = True

    def _next(self, source: Iterator[SliceRef]) -> SliceRef | None:
        """The next slice that was not asked for yet."""
        with self._taking:
            for one in source if not self._stop else ():
                if not self._claims.take(one):
                    continue
                with self._lock:
                    if self._refused(one):
                        continue
                    self._busy += 1
                return one
        self._ended.set()
        return None

    def _refused(self, one: SliceRef) -> bool:
        if self._failures.get(one.region, 0) >= _MAX_FAILURES:
            self._result.failed += 1
            return True
        if self._gave_up:
            self._leave_out("guests kept the cache busy")
            return True
        if self._result.fetched_bytes + (self._busy + 1) * SLICE_BYTES > self._max_bytes:
            self._leave_out(OVER_LIMIT)
            return True
        return False

    def _may_go_on(self, number: int) -> bool:
        """Threads beyond the share that guests leave wait, until all is done; one always goes on unless all must."""
        while not self._ended.is_set():
            if not self._watch.wait():
                self._gave_up = True  # the rest is left out
                return True
            if number < max(1, round(self._watch.share() * self._concurrency)):
                return True
            self._ended.wait(_IDLE_SECONDS)
        return False

    def _fetch(self, one: SliceRef) -> None:
        try:
            with self._limits.slot():
                present = self._cache.fetch(one)
        except ChainwrightError as error:
            with self._lock:
                self._busy -= 1
                self._result.failed += 1
                self._result.errors[one.region] = str(error)
                if not isinstance(error, NotFound):
                    self._failures[one.region] = self._failures.get(one.region, 0) + 1
            logger.warning("layer %s slice %d of %s: %s", one.layer_id, one.number, one.region, error)
            return
        with self._lock:
            self._busy -= 1
            self._failures[one.region] = 0
            if present:
                self._result.present += 1
                return
            self._result.fetched += 1
            self._result.fetched_bytes += one.length
            if self._result.first_seconds is None:
                self._result.first_seconds = clock.monotonic() - self._started
        self._limits.spend(one.length, beside_guests=self._watch.guests_read)

    def _leave_out(self, note: str) -> None:
        self._result.left_out += 1
        self._result.note = note

    def _tell(self) -> None:
        with self._lock:
            now = clock.monotonic()
            if now - self._told < _PROGRESS_SECONDS:
                return
            self._told = now
            logger.info("%s", self.progress(now - self._started))

    def progress(self, seconds: float) -> str:
        """One line: how far, how fast, how long still."""
        done = self._result.fetched + self._result.present + self._result.failed + self._result.left_out
        rate = self._result.fetched_bytes / max(seconds, 0.001)
        text = f"warm: {done}/{max(self._total, done)} slices, {human_bytes(self._result.fetched_bytes)} fetched"
        text += f", {human_bytes(rate)}/s"
        if done and self._total > done:
            text += f", ETA {human_seconds(seconds / done * (self._total - done))}"
        return text
