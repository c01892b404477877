"""Child processes that do not outlive the one that starts them, however it ends.

    [*tied("KILL"), "bwrap", "--die-with-parent", …, *WHILE_INPUT_IS_OPEN, command…]   stdin = `open_while_alive()`

bwrap asks for its parent's death too, but only when it has become a second process: if the first is killed before that,
the second goes on. So the last one that becomes the command looks whether the pipe that it reads from is still held.
"""

import contextlib
import os
from collections.abc import Iterator

# A read that does not wait fails as long as somebody holds the pipe's other end.
_STILL_HELD = 'dd iflag=nonblock bs=1 count=1 of=/dev/null status=none 2>/dev/null && exit 1; exec "$@" </dev/null'
WHILE_INPUT_IS_OPEN = ("sh", "-c", _STILL_HELD, "sh")
_STILL_OURS = 'test "$PPID" = "$0" && exec "$@"'


def tied(signal_name: str) -> list[str]:
    """What stands before a command so that it gets this signal (`KILL`, `TERM`) when this process dies.

    The kernel tells of a death after the request only: the parent's number, compared after it, shows an earlier one.
    """
    return ["setpriv", "--pdeathsig", signal_name, "sh", "-c", _STILL_OURS, str(os.getpid())]


@contextlib.contextmanager
def open_while_alive() -> Iterator[int]:
    """The end of a pipe for a child's standard input. The other end is closed with the block, or when we die."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)
