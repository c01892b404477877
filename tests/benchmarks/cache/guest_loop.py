"""The loop of a guest's process. Nothing but the standard library: Debian's Python runs it too."""

import json
import signal
import sys
import time
from collections.abc import Callable

BLOCK = 65536


def read_in_a_loop(read: Callable[[int], object], size: int, seconds: float) -> None:
    """`read(offset)` blocks of 64 KiB all over the first `size` bytes, one a millisecond, until the end or SIGTERM.

    Prints (moment, latency) of each in microseconds as JSON.
    """
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    taken, number = [], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stopped:
        number = (number * 1103515245 + 12345) % (size // BLOCK)
        started = time.perf_counter()
        read(number * BLOCK)
        taken.append((round(started * 1e6), round((time.perf_counter() - started) * 1e6)))
        time.sleep(0.001)
    sys.stdout.write(json.dumps(taken))
