"""Unix sockets of programs that were just started."""

import socket
from pathlib import Path


def accepts(path: Path | str) -> bool:
    """Does somebody take connections there? A socket's file appears before its owner listens."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
