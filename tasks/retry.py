"""Our few retry policies, by name. Nobody else writes a retry loop."""

from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_any,
    wait_random_exponential,
)

from tasks import clock
from tasks.errors import PreconditionFailed, Transient

ANSWER_SECONDS = 60  # that a client waits for an answer; a connection may be dropped without a word
_CALL_SECONDS = 3.0 * ANSWER_SECONDS  # so that a request without an answer is sent again


def store_call() -> Retrying:
    """Around one call to a store that may be repeated: reads, listings, writes under `If-None-Match` of derived ids."""
    return _policy(Transient, first_wait=0.1, longest_wait=5, seconds=_CALL_SECONDS, attempts=5)


def until_up(seconds: float) -> Retrying:
    """Wait for a server that was just started."""
    return _policy(Transient, OSError, first_wait=0.05, longest_wait=0.5, seconds=seconds)


def until_settled() -> Retrying:
    """A conditional write that may be sent again unchanged, since its condition lets at most one through."""
    return _policy(Transient, first_wait=0.1, longest_wait=2, seconds=_CALL_SECONDS, attempts=5)


def until_won(seconds: float = 60.0) -> Retrying:
    """Read, decide and compare-and-swap anew after every loss: each loss means that somebody else got on."""
    return _policy(PreconditionFailed, first_wait=0.02, longest_wait=0.25, seconds=seconds)


def until_reconnected() -> Retrying:
    """A connection to a running VM: its monitor takes one client at a time, and a host may be busy for a while."""
    return _policy(Transient, first_wait=0.2, longest_wait=5, seconds=120, attempts=10)


def _policy(
    *errors: type[Exception], first_wait: float, longest_wait: float, seconds: float, attempts: int | None = None
) -> Retrying:
    """Try again on these errors, waiting at random and ever longer, until a bound is met; then the last error."""
    bounds = [stop_after_delay(seconds), *([stop_after_attempt(attempts)] if attempts is not None else [])]
    return Retrying(
        retry=retry_if_exception_type(errors),
        stop=stop_any(*bounds),
        wait=wait_random_exponential(multiplier=first_wait, max=longest_wait),
        sleep=clock.sleep,
        reraise=True,
    )
