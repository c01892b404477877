"""Reads of a cache's blocks without an exporter between, as a process of its own.

python -m tests.benchmarks.cache.http_guest URL PATH BYTES SECONDS
"""

import sys

from tasks.cache.nbd.http_range import RangeConnection
from tests.benchmarks.cache.guest_loop import BLOCK, read_in_a_loop


def main() -> None:
    url, path, size, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    connection = RangeConnection(url, "guest")
    buffer = memoryview(bytearray(BLOCK))
    read_in_a_loop(lambda offset: connection.request(path, offset, offset + BLOCK - 1).read_into(buffer), size, seconds)


if __name__ == "__main__":
    main()
