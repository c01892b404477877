"""A guest's reads over NBD, as a process of its own: prints (moment, latency) of each in microseconds as JSON.

/usr/bin/python3 tests/benchmarks/cache/nbd_guest.py URI BYTES SECONDS

Reads blocks of 64 KiB all over the first BYTES, one a millisecond. Debian's Python, with its package python3-libnbd.
"""

import json
import sys
import time

import nbd

BLOCK = 65536


def main() -> None:
    uri, size, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    handle = nbd.NBD()
    handle.connect_uri(uri)
    taken, number = [], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number = (number * 1103515245 + 12345) % (size // BLOCK)
        started = time.perf_counter()
        handle.pread(BLOCK, number * BLOCK)
        taken.append((round(started * 1e6), round((time.perf_counter() - started) * 1e6)))
        time.sleep(0.001)
    sys.stdout.write(json.dumps(taken))


if __name__ == "__main__":
    main()
