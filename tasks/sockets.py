"""Unix sockets of programs that were just started."""

import contextlib
import os
import socket
from collections.abc import Iterator
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


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """The socket under a name that fits into the kernel's 108 bytes, however deep its folder is."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
