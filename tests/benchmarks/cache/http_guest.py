"""Reads of a cache's blocks without an exporter between, as a process of its own: prints what `nbd_guest.py` prints.

python -m tests.benchmarks.cache.http_guest URL PATH BYTES SECONDS
"""

import json
import sys
import time

from tasks.cache.nbd.http_range import RangeConnection

BLOCK = 65536


def main() -> None:
    url, path, size, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    connection = RangeConnection(url, "guest")
    buffer, taken, number = memoryview(bytearray(BLOCK)), [], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number = (number * 1103515245 + 12345) % (size // BLOCK)
        started = time.perf_counter()
        connection.request(path, number * BLOCK, (number + 1) * BLOCK - 1).read_into(buffer)
        taken.append((round(started * 1e6), round((time.perf_counter() - started) * 1e6)))
        time.sleep(0.001)
    sys.stdout.write(json.dumps(taken))


if __name__ == "__main__":
    main()
