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
from tasks.cache.ledger import SharedBudget
from tasks.cache.limits import SharedLimits
from tasks.cache.regional import RegionalCache, SliceRef
from tasks.errors import ChainwrightError, NotFound, Permanent
from tasks.units import human_bytes, human_seconds

logger = logging.getLogger(__name__)

_PROGRESS_SECONDS = 10.0
_STOP_SECONDS = 0.5  # until a run that was stopped returns
_IDLE_SECONDS = 2.0  # between two looks of a thread that waits for a share: each one wakes a core that guests use
_FAILED = "its region fails"
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
    """Slices that this process has asked for already: the disks of a run share one.

    `coming_bytes` of them are on their way, at most; `stop` ends all who share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[tuple[str, int]] = set()
        self.coming_bytes = 0
        self.stopped = False

    def take(self, one: SliceRef) -> bool:
        """True for the first who asks: to be followed by `done` or `give_back`."""
        with self._lock:
            before = len(self._taken)
            self._taken.add((one.layer_id, one.number))
            mine = len(self._taken) > before
            self.coming_bytes += one.length if mine else 0
            return mine

    def done(self, one: SliceRef) -> None:
        """It has been answered."""
        with self._lock:
            self.coming_bytes -= one.length

    def give_back(self, one: SliceRef) -> None:
        """It was not fetched: another disk may."""
        with self._lock:
            self.coming_bytes -= one.length
            self._taken.discard((one.layer_id, one.number))

    def stop(self) -> None:
        """Begin nothing more."""
        self.stopped = True


class Warmer:
    """One run against one cache."""

    def __init__(
        self,
        cache: RegionalCache,
        limits: SharedLimits,
        watch: GuestWatch,
        *,
        concurrency: int,
        budget: SharedBudget | None = None,
        claims: Claims | None = None,
        name: str = "warm",
    ) -> None:
        self._cache = cache
        self._limits = limits
        self._watch = watch
        self._concurrency = concurrency
        self._budget = budget
        self._name = name  # in the log
        self._total = 0
        self._lock = threading.Lock()
        self._taking = threading.Lock()
        self._result = WarmResult()
        self._claims = claims or Claims()
        self._failures: dict[str, int] = {}
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
            while thread.is_alive() and not self._claims.stopped:
                thread.join(_STOP_SECONDS)
        if trouble:
            raise trouble[0]
        if self._claims.stopped:
            raise Permanent("warming was interrupted; the next run goes on")
        self._result.seconds = clock.monotonic() - self._started
        self._result.paused_seconds = self._watch.paused_seconds
        return self._result

    def expect(self, total: int) -> None:
        """How many slices there are in all, once that is known: for the progress and the time that is left."""
        self._total = total

    def fetch_now(self, one: SliceRef) -> bool:
        """Fetch one slice before the others, because what comes next is read from it; counted like the others.

        False: it is not in the cache, because a limit or an error forbade it.
        """
        if not self._claims.take(one):
            return True
        if self._refusal(one):
            self._claims.give_back(one)
            return False
        return self._fetch(one)

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
            for one in source if not (self._stop or self._claims.stopped) else ():
                if not self._claims.take(one):
                    continue
                note = self._refusal(one)
                if not note:
                    return one
                self._claims.give_back(one)
                self._leave_out(note)
        self._ended.set()
        return None

    def _refusal(self, one: SliceRef) -> str:
        """Why it must not be fetched; "" if it may."""
        with self._lock:
            if self._failures.get(one.region, 0) >= _MAX_FAILURES:
                return _FAILED
            if self._gave_up:
                return "guests kept the cache busy"
            coming = self._claims.coming_bytes
            return self._budget.refusal(self._result.fetched_bytes, coming) if self._budget else ""

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

    def _fetch(self, one: SliceRef) -> bool:
        """Is it in the cache now?"""
        try:
            with self._limits.slot():
                present = self._cache.fetch(one)
        except ChainwrightError as error:
            self._claims.give_back(one)
            with self._lock:
                self._result.failed += 1
                self._result.errors[one.region] = str(error)
                if not isinstance(error, NotFound):
                    self._failures[one.region] = self._failures.get(one.region, 0) + 1
            logger.warning("layer %s slice %d of %s: %s", one.layer_id, one.number, one.region, error)
            return False
        if self._budget and not present:
            self._budget.spend(one.length)
        self._claims.done(one)
        with self._lock:
            self._failures[one.region] = 0
            if present:
                self._result.present += 1
                return True
            self._result.fetched += 1
            self._result.fetched_bytes += one.length
            if self._result.first_seconds is None:
                self._result.first_seconds = clock.monotonic() - self._started
        self._limits.spend(one.length, beside_guests=self._watch.guests_read)
        return True

    def _leave_out(self, note: str) -> None:
        with self._lock:
            if note == _FAILED:
                self._result.failed += 1
            else:
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
        text = (
            f"{self._name}: {done}/{max(self._total, done)} slices, {human_bytes(self._result.fetched_bytes)} fetched"
        )
        text += f", {human_bytes(rate)}/s"
        if done and self._total > done:
            text += f", ETA {human_seconds(seconds / done * (self._total - done))}"
        return text
