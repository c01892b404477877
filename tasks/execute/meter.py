"""Count what an action moves: bytes by region and direction, requests, progress."""

import datetime
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks import clock
from tasks.plan.steps import Cost
from tasks.store.base import CopySource, ObjectInfo, ObjectStore, Part, PendingUpload


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an action is. Bytes through the worker, fetched and sent together."""

    step: str
    done_bytes: int
    predicted_bytes: int
    seconds: float

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to go at the speed so far; None while nothing has moved."""
        if not self.done_bytes or self.seconds <= 0:
            return None
        return max(0, self.predicted_bytes - self.done_bytes) * self.seconds / self.done_bytes


ProgressCallback = Callable[[Progress], None]


class Meter:
    """Sums of one action. Thread-safe. `on_progress` is called at most every `every_seconds`, and at each step."""

    def __init__(
        self, predicted_bytes: int, on_progress: ProgressCallback | None = None, every_seconds: float = 2.0
    ) -> None:
        self._lock = threading.Lock()
        self._read: Counter[str] = Counter()
        self._write: Counter[str] = Counter()
        self._copy: Counter[str] = Counter()
        self._requests = 0
        self._predicted = predicted_bytes
        self._callback = on_progress
        self._every = every_seconds
        self._began = self._told = clock.monotonic()
        self._step = "start"

    def step(self, name: str) -> None:
        """The action goes on to another step."""
        with self._lock:
            self._step = name
            self._told = clock.monotonic()
        self._tell()

    def read(self, region: str, count: int) -> None:
        """Fetched from a region."""
        self._add(self._read, region, count)

    def write(self, region: str, count: int) -> None:
        """Sent to a region."""
        self._add(self._write, region, count)

    def copy(self, region: str, count: int) -> None:
        """Copied by the store out of a region."""
        self._add(self._copy, region, count)

    def request(self) -> None:
        """A request without a body worth counting."""
        with self._lock:
            self._requests += 1

    @property
    def seconds(self) -> float:
        """Since the action began."""
        return clock.monotonic() - self._began

    def cost(self, egress_usd: float = 0.0, temp_bytes: int = 0) -> Cost:
        """The sums so far."""
        with self._lock:
            return Cost(
                read_bytes=dict(sorted(self._read.items())),
                write_bytes=dict(sorted(self._write.items())),
                copy_bytes=dict(sorted(self._copy.items())),
                requests=self._requests,
                egress_usd=egress_usd,
                temp_bytes=temp_bytes,
                seconds=self.seconds,
            )

    def _add(self, counter: "Counter[str]", region: str, count: int) -> None:
        with self._lock:
            counter[region] += count
            self._requests += 1
            due = clock.monotonic() - self._told >= self._every
            if due:
                self._told = clock.monotonic()
        if due:
            self._tell()

    def _tell(self) -> None:
        if self._callback:
            done = self._read.total() + self._write.total()
            self._callback(Progress(self._step, done, self._predicted, self.seconds))


class MeteredStore:
    """Counts what passes through; same contract as the store it wraps."""

    def __init__(self, inner: ObjectStore, meter: Meter, region_of_bucket: dict[str, str]) -> None:
        self.region = inner.region
        self.bucket = inner.bucket
        self.inner = inner
        self._meter = meter
        self._regions = region_of_bucket

    def now(self) -> datetime.datetime:
        """By the store's clock."""
        return self.inner.now()

    def info(self, key: str) -> ObjectInfo:
        """One request."""
        self._meter.request()
        return self.inner.info(key)

    def get(self, key: str) -> tuple[bytes, ObjectInfo]:
        """Counted when it has arrived."""
        body, info = self.inner.get(key)
        self._meter.read(self.region, len(body))
        return body, info

    def get_range(self, key: str, start: int, length: int, if_match: str | None = None) -> bytes:
        """Counted when it has arrived."""
        body = self.inner.get_range(key, start, length, if_match)
        self._meter.read(self.region, len(body))
        return body

    def put_new(self, key: str, body: bytes) -> str:
        """Counted when it is acknowledged."""
        etag = self.inner.put_new(key, body)
        self._meter.write(self.region, len(body))
        return etag

    def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        """Counted when it is acknowledged."""
        new = self.inner.put_if_match(key, body, etag)
        self._meter.write(self.region, len(body))
        return new

    def delete(self, key: str, if_match: str | None = None) -> None:
        """One request."""
        self._meter.request()
        self.inner.delete(key, if_match)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Not counted."""
        return self.inner.list(prefix, start_after)

    def upload_file(self, key: str, path: Path) -> str:
        """Counted when it is complete."""
        etag = self.inner.upload_file(key, path)
        self._meter.write(self.region, path.stat().st_size)
        return etag

    def create_multipart(self, key: str) -> str:
        """One request."""
        self._meter.request()
        return self.inner.create_multipart(key)

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        """Counted when it is acknowledged."""
        part = self.inner.upload_part(key, upload_id, number, body)
        self._meter.write(self.region, len(body))
        return part

    def copy_part(self, key: str, upload_id: str, number: int, source: CopySource) -> Part:
        """Counted for the region that the bytes come from."""
        part = self.inner.copy_part(key, upload_id, number, source)
        self._meter.copy(self._regions.get(source.bucket, self.region), source.length)
        return part

    def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> str:
        """One request."""
        self._meter.request()
        return self.inner.complete_multipart(key, upload_id, parts)

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """One request."""
        self._meter.request()
        self.inner.abort_multipart(key, upload_id)

    def list_multipart(self, prefix: str) -> Iterator[PendingUpload]:
        """Not counted."""
        return self.inner.list_multipart(prefix)
