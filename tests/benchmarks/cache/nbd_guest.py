"""A guest's reads over NBD, as a process of its own.

/usr/bin/python3 -m tests.benchmarks.cache.nbd_guest URI BYTES SECONDS

Debian's Python, with its package python3-libnbd.
"""

import sys

import nbd

from tests.benchmarks.cache.guest_loop import BLOCK, read_in_a_loop


def main() -> None:
    handle = nbd.NBD()
    handle.connect_uri(sys.argv[1])
    read_in_a_loop(lambda offset: handle.pread(BLOCK, offset), int(sys.argv[2]), float(sys.argv[3]))


if __name__ == "__main__":
    main()
