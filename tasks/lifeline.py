"""Child processes that do not outlive the one that starts them, however it ends."""

import os

_STILL_OURS = 'test "$PPID" = "$0" && exec "$@"'


def tied(signal_name: str) -> list[str]:
    """What stands before a command so that it gets this signal (`KILL`, `TERM`) when this process dies.

    The kernel tells of a death after the request only: the parent's number, compared after it, shows an earlier one.
    """
    return ["setpriv", "--pdeathsig", signal_name, "sh", "-c", _STILL_OURS, str(os.getpid())]
