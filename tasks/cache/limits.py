"""Limits that all warming processes of a host share: slices on their way at once, and bytes per second.

Both are files in the work directory, so that eight tasks of one region do not fetch eight times as fast as one.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from tasks import clock

_POLL_SECONDS = 0.02


class SharedLimits:
    """Of one region on this host. Bytes per second: at all, and while guests read; 0 = no bound."""

    def __init__(self, folder: Path, concurrency: int, bytes_per_second: int, beside_guests: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._slots = [folder / f"slot-{number}" for number in range(concurrency)]
        self._clock_file = folder / "bandwidth"
        self._rate = bytes_per_second
        self._rate_beside_guests = min(filter(None, (bytes_per_second, beside_guests)), default=0)

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """One of the places; waits for one. It is given back even if the process is killed."""
        descriptor = self._take()
        try:
            yield
        finally:
            os.close(descriptor)

    def spend(self, count_bytes: int, *, beside_guests: bool = False) -> None:
        """Wait until so many bytes may be fetched: a queue of moments that all processes write their place into."""
        rate = self._rate_beside_guests if beside_guests else self._rate
        if not rate:
            return
        descriptor = os.open(self._clock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            now = clock.now().timestamp()
            text = os.pread(descriptor, 64, 0)
            start = max(now, _moment(text, now, count_bytes / rate))
            os.pwrite(descriptor, b"%-40.6f\n" % (start + count_bytes / rate), 0)
        finally:
            os.close(descriptor)
        clock.sleep(max(0.0, start - now))

    def _take(self) -> int:
        while True:
            for path in self._slots:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return descriptor
                except BlockingIOError:
                    os.close(descriptor)
            clock.sleep(_POLL_SECONDS)


def _moment(text: bytes, now: float, one_turn: float) -> float:
    """The next free moment that the file names; a value of a clock that was set back is not waited for."""
    try:
        found = float(text)
    except ValueError:
        return now
    return found if found < now + 3600 + one_turn else now
