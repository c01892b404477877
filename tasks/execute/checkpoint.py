"""Named points of an action, at which the crash tests kill the process. In production: one look at a variable."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

ENV_CRASH_AT = "CHAINWRIGHT_CRASH_AT"
ENV_CRASH_ONCE = "CHAINWRIGHT_CRASH_ONCE"  # optional, a file: crash only if it is there, and take it away

# In the order in which an action passes them. The runner's docstring says what is left behind after each.
POINTS: Final = (
    "intent",  # the journal names what may be created
    "leased",  # the head carries the lease
    "cleaned",  # leftovers of earlier attempts are gone
    "reserved",  # the work directory's space is ours
    "fetched",  # inputs are in the work directory
    "merged",  # the result is complete there
    "proved",  # and proved
    "uploading",  # some parts of the new object are sent
    "uploaded",  # every new object is in the store
    "verified",  # read back; the journal holds the proof
    "published",  # the head names the new tip
    "receipted",  # the receipt says so
)

Checkpoint = Callable[[str], None]


def crash_point(name: str) -> None:
    """SIGKILL to ourselves if the environment asks for it here."""
    assert name in POINTS, name
    if os.environ.get(ENV_CRASH_AT) == name and _asked_now(os.environ.get(ENV_CRASH_ONCE)):
        os.kill(os.getpid(), signal.SIGKILL)


def _asked_now(once: str | None) -> bool:
    if once is None:
        return True
    try:
        Path(once).unlink()
    except FileNotFoundError:
        return False
    return True
