"""Free ports for servers that tests start."""

import random
from pathlib import Path

from tasks.embedded.ports import is_free
from tasks.embedded.s3 import S3Server


def free_block() -> int:
    """A first port such that every port which an embedded S3 server derives from it is free.

    Below Linux's ephemeral range, so that no outgoing connection takes one in between.
    """
    for _ in range(500):
        base = random.randrange(12_000, 22_000)
        ports = S3Server(Path(), base, "", "").ports.values()
        if all(is_free(port) for port in ports):
            return base
    raise RuntimeError("no free block of ports")


def free_port() -> int:
    """One port that is free now."""
    for _ in range(500):
        port = random.randrange(12_000, 32_000)
        if is_free(port):
            return port
    raise RuntimeError("no free port")
