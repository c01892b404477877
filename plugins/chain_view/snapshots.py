"""The manifest snapshot that the pages show: staged locally, followed in the background, never a half one.

A request never waits for a store for long: while the newest snapshot is looked up and staged, the last one is served.
What went wrong meanwhile is told with the data (`View.warning`), or instead of it where there is no data yet.
"""

import datetime
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks import clock
from tasks.errors import ChainwrightError, ConfigError, NotFound, Transient
from tasks.settings import Fleet

from .problems import Problem, Unavailable, iso

log = logging.getLogger(__name__)

RECHECK_SECONDS = 10.0
FIRST_WAIT_SECONDS = 5.0  # how long a request waits when there is nothing to show yet


@dataclass(frozen=True, slots=True)
class Staged:
    """A snapshot that lies in `directory`, whole."""

    snapshot_id: str
    created_at: datetime.datetime
    directory: Path


@dataclass(frozen=True, slots=True)
class View:
    """What a request works on."""

    fleet: Fleet
    staged: Staged
    warning: Problem | None


class Source(Protocol):
    """Where snapshots come from."""

    def fleet(self) -> Fleet:
        """The fleet's file. Raises ConfigError."""

    def current(self, fleet: Fleet) -> "Found | None":
        """The published snapshot, or None. Raises the store's errors."""

    def unpublished(self, fleet: Fleet, published: "Found | None") -> "Unpublished | None":
        """A snapshot that was begun after the published one."""

    def stage(self, fleet: Fleet, found: "Found") -> Path:
        """Fetch it. Raises NotFound if a part of it is missing."""


@dataclass(frozen=True, slots=True)
class Found:
    """A published snapshot. `handle` is the source's own."""

    snapshot_id: str
    created_at: datetime.datetime
    handle: object


@dataclass(frozen=True, slots=True)
class Unpublished:
    """Begun, but not published: an inventory that is running or was broken off."""

    snapshot_id: str
    since: datetime.datetime


class SnapshotHolder:
    """Thread-safe; one per process."""

    def __init__(self, source: Source, prepare: Callable[[Fleet, Staged], None] | None = None) -> None:
        self._source = source
        self._prepare = prepare
        self._lock = threading.Lock()
        self._worker: threading.Thread | None = None
        self._answered = threading.Event()  # the worker knows what to show, or why there is nothing
        self._checked = -RECHECK_SECONDS
        self._fleet: Fleet | None = None
        self._staged: Staged | None = None
        self._problem: Problem | None = None
        self._begun: datetime.datetime | None = None

    def view(self) -> View:
        """The newest snapshot that is here whole. Raises Unavailable with what is missing and since when."""
        worker = self._follow()
        if self._staged is None and worker is not None:
            self._answered.wait(FIRST_WAIT_SECONDS)
        with self._lock:
            if self._staged is not None and self._fleet is not None:
                return View(self._fleet, self._staged, self._problem)
            raise Unavailable(self._problem or self._loading())

    def recheck(self, wait_seconds: float = 0.0) -> None:
        """Look for a newer snapshot now, and wait that long for it to be in view."""
        deadline = clock.monotonic() + wait_seconds
        with self._lock:
            running = self._worker
        if running is not None:  # it may have looked before the snapshot was published
            running.join(wait_seconds)
        with self._lock:
            self._checked = -RECHECK_SECONDS
        worker = self._follow()
        if worker is not None:
            worker.join(max(0.0, deadline - clock.monotonic()))

    def _loading(self) -> Problem:
        return Problem(
            "loading", "The manifest is being fetched", "The first page after a start waits for it.", iso(self._begun)
        )

    def _follow(self) -> threading.Thread | None:
        with self._lock:
            if self._worker is not None and self._worker.is_alive():
                return self._worker
            if clock.monotonic() - self._checked < RECHECK_SECONDS:
                return None
            self._checked = clock.monotonic()
            self._begun = clock.now()
            self._answered.clear()
            self._worker = threading.Thread(target=self._refresh, name="chain-view-snapshot", daemon=True)
            self._worker.start()
            return self._worker

    def _refresh(self) -> None:
        try:
            fleet = self._source.fleet()
            problem = self._take(fleet)
        except ChainwrightError as error:
            problem = _problem_of(error)
        except Exception as error:  # a thread's error must reach the page, whatever it is
            log.exception("chain_view: the manifest could not be read")
            problem = Problem("failed", "The manifest could not be read", f"{type(error).__name__}: {error}")
        with self._lock:
            self._problem = self._dated(problem)
        self._answered.set()

    def _take(self, fleet: Fleet) -> Problem | None:
        with self._lock:
            self._fleet = fleet
            known = self._staged.snapshot_id if self._staged else None
        found = self._source.current(fleet)
        if found is not None and found.snapshot_id != known:
            try:
                staged = Staged(found.snapshot_id, found.created_at, self._source.stage(fleet, found))
            except NotFound as error:
                return _incomplete(found, error)
            if known is not None:
                self._ready(fleet, staged)
            with self._lock:
                self._staged = staged
            if known is None:  # nobody waits for the first one's answers
                self._answered.set()
                self._ready(fleet, staged)
        return self._waiting(fleet, found)

    def _ready(self, fleet: Fleet, staged: Staged) -> None:
        if self._prepare:
            self._prepare(fleet, staged)

    def _waiting(self, fleet: Fleet, found: Found | None) -> Problem | None:
        begun = self._source.unpublished(fleet, found)
        if found is None:
            return _no_manifest(begun)
        if begun is None:
            return None
        return Problem(
            "inventory_open",
            "A newer inventory is not published yet",
            f"Snapshot {begun.snapshot_id} is being written or was broken off; this page shows {found.snapshot_id}.",
            iso(begun.since),
        )

    def _dated(self, problem: Problem | None) -> Problem | None:
        """With the moment when this problem was first seen, unless the problem knows better."""
        if problem is None or problem.since is not None:
            return problem
        old = self._problem
        since = old.since if old is not None and old.code == problem.code else iso(self._begun)
        return Problem(problem.code, problem.title, problem.detail, since)


def _no_manifest(begun: Unpublished | None) -> Problem:
    if begun is None:
        return Problem(
            "no_manifest",
            "No inventory yet",
            "No manifest has been published. Run the DAG chain_inventory, or `chainwright scan`.",
        )
    return Problem(
        "no_manifest",
        "The first inventory is not finished",
        f"Snapshot {begun.snapshot_id} is being written or was broken off; see the DAG chain_inventory.",
        iso(begun.since),
    )


def _incomplete(found: Found, error: Exception) -> Problem:
    return Problem(
        "snapshot_incomplete",
        "The newest snapshot is incomplete",
        f"Snapshot {found.snapshot_id} is published, but a part of it is missing: {error}",
        iso(found.created_at),
    )


def _problem_of(error: ChainwrightError) -> Problem:
    line = " ".join(str(error).split())
    if isinstance(error, ConfigError):
        return Problem("fleet", "The fleet's file is wrong or missing", line)
    title = "The object store cannot be reached" if isinstance(error, Transient) else "The object store refused"
    return Problem("store_unreachable", title, line)
