"""How fast slices come into the cache, against what the origin itself gives, and what the cache then serves.

python -m tests.benchmarks.cache.throughput [--slices 300] [--rounds 3] [--connection-mib 5]

Needs `wrk` (Debian package wrk) for the last line; without it that line is left out.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tasks.cache.regional import RegionalCache
from tasks.settings import Fleet, Region
from tasks.units import MIB, SLICE_BYTES
from tests.benchmarks.cache.guests_first import say, warm_once
from tests.benchmarks.cache.origin import running_store
from tests.support.cache_server import CacheServer, running_cache

CONNECTIONS = 16
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
    options.add_argument("--slices", type=int, default=300)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--connection-mib", type=int, default=0, help="MiB/s that the origin gives one connection")
    asked = options.parse_args()
    size = asked.slices * asked.rounds * SLICE_BYTES
    with (
        tempfile.TemporaryDirectory(prefix="cwt-", dir="/var/tmp") as folder,
        running_store(Path(folder), asked.connection_mib * MIB) as store,
    ):
        layer = store.add(size)
        region = Region(name="eu-west", endpoint=f"http://{store.address}", bucket="bucket")
        fleet = Fleet(control_region="eu-west", regions=(region,))
        with running_cache(fleet, "eu-west", cache_bytes=8 << 30) as cache:
            for number in range(asked.rounds):
                first = number * asked.slices
                direct = read_origin(f"http://{store.address}/bucket", layer, first, asked.slices)
                warmed = warm_once(cache, layer, first, asked.slices, size, Path(folder) / "limits", CONNECTIONS)
                say(f"origin {direct:.0f} MiB/s  warming {warmed:.0f} MiB/s  ratio {warmed / direct:.2f}")
            serve(cache, layer, asked.slices, Path(folder))


def read_origin(url: str, layer: str, first: int, count: int) -> float:
    """MiB/s of the same client reading the same slices straight from the store."""
    reader = RegionalCache(url, "probe")
    started = time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda n: reader.read(layer, "", n * SLICE_BYTES, SLICE_BYTES), range(first, first + count)))
    return count * SLICE_BYTES / (time.monotonic() - started) / MIB


def serve(cache: CacheServer, layer: str, slices: int, folder: Path) -> None:
    if shutil.which("wrk") is None:
        return
    script = folder / "range.lua"
    script.write_text(_WRK.format(slices=slices, size=SLICE_BYTES, layer=layer))
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d5s", "-s", str(script), cache.url]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    match = re.search(r"Transfer/sec:\s+(\S+)", done.stdout)
    say(f"the cache to wrk: {match[1] if match else 'no figure'}/s")


if __name__ == "__main__":
    main()
