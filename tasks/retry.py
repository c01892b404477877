"""Our few retry policies, by name. Nobody else writes a retry loop."""

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_random_exponential

from tasks import clock
from tasks.errors import PreconditionFailed, Transient


def store_call() -> Retrying:
    """Around one call to a store that may be repeated: reads, listings, writes under `If-None-Match` of derived ids."""
    return Retrying(
        retry=retry_if_exception_type(Transient),
        stop=stop_after_attempt(5) | stop_after_delay(60),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        sleep=clock.sleep,
        reraise=True,
    )


def until_up(seconds: float) -> Retrying:
    """Wait for a server that was just started."""
    return Retrying(
        retry=retry_if_exception_type((Transient, OSError)),
        stop=stop_after_delay(seconds),
        wait=wait_random_exponential(multiplier=0.05, max=0.5),
        sleep=clock.sleep,
        reraise=True,
    )


def until_settled() -> Retrying:
    """A conditional write that may be sent again unchanged, since its condition lets at most one through."""
    return Retrying(
        retry=retry_if_exception_type(Transient),
        stop=stop_after_attempt(5) | stop_after_delay(60),
        wait=wait_random_exponential(multiplier=0.1, max=2),
        sleep=clock.sleep,
        reraise=True,
    )


def until_won(seconds: float = 60.0) -> Retrying:
    """Read, decide and compare-and-swap anew after every loss: each loss means that somebody else got on."""
    return Retrying(
        retry=retry_if_exception_type(PreconditionFailed),
        stop=stop_after_delay(seconds),
        wait=wait_random_exponential(multiplier=0.02, max=0.25),
        sleep=clock.sleep,
        reraise=True,
    )


def until_reconnected() -> Retrying:
    """A connection to a running VM: its monitor takes one client at a time, and a host may be busy for a while."""
    return Retrying(
        retry=retry_if_exception_type(Transient),
        stop=stop_after_attempt(10) | stop_after_delay(120),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        sleep=clock.sleep,
        reraise=True,
    )
