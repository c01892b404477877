"""How fast slices come into the cache, against what the origin itself gives, and what the cache then serves.

python -m tests.benchmarks.cache.throughput [--slices 150] [--rounds 3] [--connection-mib 4] [--origin-ms 50]

In turn: whole slices straight from the store with curl; into the cache with warming; into it with curl, which asks
for the same last bytes over as many connections (what the same nginx gives another client). Every turn has slices that
nobody asked for before. At last: the same slices from the cache to `wrk` (Debian package wrk).
`--connection-mib`: MiB/s that the network to the store, so far away, gives each of the 16 connections; without it
the store is on this machine and gives all that the processor can.
"""

import argparse
import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tasks.cache.regional import SliceRef
from tasks.settings import Fleet, Region
from tasks.units import MIB, SLICE_BYTES
from tests.benchmarks.cache.far import far_away
from tests.benchmarks.cache.origin import Store, running_store
from tests.benchmarks.cache.warming import CONCURRENCY, new_warmer
from tests.support.cache_server import CacheServer, running_cache, wait_until

_WRK = """
local n = 0
request = function()
  n = (n + 1) % {slices}
  wrk.headers["Range"] = string.format("bytes=%d-%d", n * {size}, (n + 1) * {size} - 1)
  return wrk.format("GET", "/eu-west/layers/{layer}.qcow2")
end
"""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--slices", type=int, default=150)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--workers", default="auto", help="nginx workers of the cache")
    options.add_argument("--connection-mib", type=int, default=0)
    options.add_argument("--origin-ms", type=float, default=50)
    asked = options.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="cwt-", dir="/var/tmp") as folder,
        running_store(Path(folder)) as store,
        network(store, asked.origin_ms, asked.connection_mib) as address,
    ):
        layer = store.add(asked.slices * SLICE_BYTES)
        region = Region(name="eu-west", endpoint=f"http://{address}", bucket="bucket")
        fleet = Fleet(control_region="eu-west", regions=(region,))
        with running_cache(fleet, "eu-west", cache_bytes=16 << 30, workers=asked.workers) as cache:
            for _ in range(asked.rounds):
                direct = read_origin(f"http://{address}/bucket/layers/{layer}.qcow2", asked.slices, Path(folder))
                warmed = warm(cache, store.again(layer), asked.slices, Path(folder))
                peer = ideal(cache, store.again(layer), asked.slices, Path(folder))
                say(f"origin {direct:.0f} MiB/s  warming {warmed:.0f}  curl through the cache {peer:.0f}")
                say(f"  warming/origin {warmed / direct:.2f}  warming/curl {warmed / peer:.2f}")
            warmed_layer = store.again(layer)
            warm(cache, warmed_layer, asked.slices, Path(folder))
            serve(cache, warmed_layer, asked.slices, Path(folder))


@contextlib.contextmanager
def network(store: Store, origin_ms: float, connection_mib: int) -> Iterator[str]:
    """The store's address as the cache sees it."""
    if not connection_mib:
        yield store.address
        return
    with far_away(store.address, origin_ms / 1000, connection_mib * MIB, idle=False) as address:
        yield address


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def warm(cache: CacheServer, layer: str, count: int, folder: Path) -> float:
    """MiB/s."""
    slices = [SliceRef(layer, "eu-west", number, count * SLICE_BYTES) for number in range(count)]
    done = new_warmer(cache, slices[0], folder / "limits", 0).run(slices)
    if done.fetched != count:
        raise RuntimeError(f"{done.fetched} of {count} slices fetched: {done.errors}")
    return done.fetched_bytes / done.seconds / MIB


def ideal(cache: CacheServer, layer: str, count: int, folder: Path) -> float:
    """MiB/s that come into the cache when curl asks for the last byte of each slice."""
    cache.forget()
    lasts = [((number + 1) * SLICE_BYTES - 1,) * 2 for number in range(count)]
    seconds = curl(f"{cache.url}/eu-west/layers/{layer}.qcow2", lasts, folder)
    wait_until(lambda: cache.upstream_requests() >= count)  # a line comes after its answer
    return count * SLICE_BYTES / seconds / MIB


def read_origin(url: str, count: int, folder: Path) -> float:
    """MiB/s of whole slices straight from the store."""
    whole = [(number * SLICE_BYTES, (number + 1) * SLICE_BYTES - 1) for number in range(count)]
    return count * SLICE_BYTES / curl(url, whole, folder) / MIB


def curl(url: str, ranges: list[tuple[int, int]], folder: Path) -> float:
    """Seconds for all of them, over as many connections as warming has."""
    config = folder / "curl.conf"
    parts = [
        f'url = "{url}"\noutput = "/dev/null"\nrange = "{first}-{last}"\n'
        'header = "X-Chainwright-Client: warm"\nsilent\nshow-error\nfail\n'
        for first, last in ranges
    ]
    config.write_text("next\n".join(parts))
    argv = ["curl", "--parallel", "--parallel-immediate", "--parallel-max", str(CONCURRENCY), "--config", str(config)]
    started = time.monotonic()
    subprocess.run(argv, check=True, timeout=120, capture_output=True)
    return time.monotonic() - started


def serve(cache: CacheServer, layer: str, slices: int, folder: Path) -> None:
    """Whole slices from the cache."""
    if shutil.which("wrk") is None:
        return
    script = folder / "range.lua"
    script.write_text(_WRK.format(slices=slices, size=SLICE_BYTES, layer=layer))
    argv = ["wrk", "-t1", f"-c{CONCURRENCY}", "-d5s", "-s", str(script), cache.url]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    match = re.search(r"Transfer/sec:\s+(\S+)", done.stdout)
    say(f"the cache to wrk: {match[1] if match else 'no figure'}/s")


if __name__ == "__main__":
    main()
