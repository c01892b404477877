"""The only place that reads the machine's clock (the linter keeps it so)."""

import datetime
import time


def now() -> datetime.datetime:
    """Now, in UTC, with microseconds."""
    return datetime.datetime.now(datetime.UTC)


def monotonic() -> float:
    """Seconds of a clock that never goes back."""
    return time.monotonic()


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)
