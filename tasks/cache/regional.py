"""A region's cache as seen by Chainwright itself: range reads, and questions about what it holds. Thread-safe."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tasks import clock, retry
from tasks.cache.nbd.http_range import NotCached, RangeConnection
from tasks.errors import Permanent
from tasks.units import MIB, SLICE_BYTES

_ASK_SECONDS = 120.0  # a range that takes longer is given up
_READ_BYTES = 8 * MIB  # per request


@dataclass(frozen=True, slots=True)
class SliceRef:
    """One slice of one object of `size_bytes`; region "" = let the cache find it."""

    layer_id: str
    region: str
    number: int
    size_bytes: int

    @property
    def length(self) -> int:
        """Bytes of the slice: the last one of an object is shorter."""
        return min(SLICE_BYTES, self.size_bytes - self.number * SLICE_BYTES)

    @property
    def last_byte(self) -> int:
        """Its offset in the object."""
        return self.number * SLICE_BYTES + self.length - 1


class RegionalCache:
    """`client` is what the cache's log calls these requests: warm, probe or worker."""

    def __init__(self, url: str, client: str, timeout_seconds: float = 60.0) -> None:
        self.url = url
        self._client = client
        self._timeout = timeout_seconds
        self._free: queue.LifoQueue[RangeConnection] = queue.LifoQueue()

    def read(self, layer_id: str, region: str, start: int, length: int, *, cached_only: bool = False) -> bytes:
        """Bytes `[start, start + length)`. NotInCache with `cached_only`, NotFound, or Permanent: it is shorter."""
        body = bytearray(length)
        for at in range(0, length, _READ_BYTES):
            view = memoryview(body)[at : at + _READ_BYTES]
            self._read_into(_path(layer_id, region, cached_only=cached_only), start + at, view)
        return bytes(body)

    def _read_into(self, path: str, start: int, view: memoryview) -> None:
        for attempt in retry.store_call():
            with attempt, self._connection() as connection:
                deadline = clock.monotonic() + _ASK_SECONDS
                try:
                    reply = connection.request(path, start, start + len(view) - 1, deadline=deadline)
                except NotCached as error:
                    raise NotInCache(str(error)) from None
                if reply.remaining != len(view):
                    connection.close()
                    raise Permanent(f"{path}: {reply.total} bytes, {start + len(view)} expected")
                reply.read_into(view)

    def fetch(self, one: SliceRef) -> bool:
        """Have the cache fetch and keep the slice; True if it had it already. Sent bytes: one."""
        for attempt in retry.store_call():
            with attempt:
                status = self._last_byte(_path(one.layer_id, one.region), one)
        return status == "HIT"

    def has(self, one: SliceRef) -> bool:
        """Is the slice in the cache? Asks no store."""
        for attempt in retry.store_call():
            with attempt:
                try:
                    self._last_byte(_path(one.layer_id, one.region, cached_only=True), one)
                except NotCached:
                    return False
        return True

    def seconds_of_a_hit(self, one: SliceRef) -> float | None:
        """How long a small read of a cached slice takes now; None if it is not cached."""
        started = clock.monotonic()
        return clock.monotonic() - started if self.has(one) else None

    def _last_byte(self, path: str, one: SliceRef) -> str:
        with self._connection() as connection:
            deadline = clock.monotonic() + _ASK_SECONDS
            reply = connection.request(path, one.last_byte, one.last_byte, deadline=deadline)
            reply.drain()
            return reply.cache

    @contextmanager
    def _connection(self) -> Iterator[RangeConnection]:
        try:
            connection = self._free.get_nowait()
        except queue.Empty:
            connection = RangeConnection(self.url, self._client, self._timeout)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._free.put(connection)


class NotInCache(Permanent):
    """Asked for what is cached only, and it is not."""


def _path(layer_id: str, region: str, *, cached_only: bool = False) -> str:
    place = f"/{region}" if region else ""
    return f"{'/cached' if cached_only else ''}{place}/layers/{layer_id}.qcow2"
