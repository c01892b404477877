"""Does warming slow down guests? One guest reads cached blocks in a loop; p50 and p99 without and with warming.

python -m tests.benchmarks.cache.guests_first [--slices 200] [--rounds 4] [--origin-ms 50] [--connection-mib 64]

Rounds without and with warming alternate, so that the machine's own noise is in both. The guest is a process of its
own. The origin (another nginx) and the network to it are other regions' machines: they run at the lowest priority. The
guest reads longer than warming takes: only reads that were made meanwhile count.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tasks.cache.guests import GuestLimits, GuestWatch
from tasks.cache.limits import SharedLimits
from tasks.cache.nbd.http_range import RangeConnection
from tasks.cache.regional import RegionalCache, SliceRef
from tasks.cache.warmer import Warmer
from tasks.settings import Fleet, Region
from tasks.units import MIB, SLICE_BYTES
from tests.benchmarks.cache.far import far_away
from tests.benchmarks.cache.origin import running_store
from tests.support.cache_server import CacheServer, running_cache

BLOCK = 65536
HOT = 32  # slices that the guest reads


def guest(url: str, path: str, seconds: float) -> None:
    """The guest's process: prints (moment, latency) of each read in microseconds."""
    connection = RangeConnection(url, "guest")
    buffer, taken, number = memoryview(bytearray(BLOCK)), [], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number = (number * 1103515245 + 12345) % (HOT * SLICE_BYTES // BLOCK)
        started = time.perf_counter()
        connection.request(path, number * BLOCK, (number + 1) * BLOCK - 1).read_into(buffer)
        taken.append((round(started * 1e6), round((time.perf_counter() - started) * 1e6)))
        time.sleep(0.001)
    sys.stdout.write(json.dumps(taken))


def start_guest(cache: CacheServer, layer: str, seconds: float) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-m", "tests.benchmarks.cache.guests_first", "--guest", cache.url, layer, str(seconds)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def percentile(values: list[int], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] / 1000


def warm_once(
    cache: CacheServer, layer: str, first: int, count: int, size: int, folder: Path, concurrency: int, rate: int = 0
) -> float:
    probe = RegionalCache(cache.url, "probe")
    one = SliceRef(layer, "eu-west", 0, size)
    watch = GuestWatch(cache.access_log, lambda: probe.seconds_of_a_hit(one), GuestLimits())
    warmer = Warmer(
        RegionalCache(cache.url, "warm"), SharedLimits(folder, concurrency, rate), watch,
        concurrency=concurrency, max_bytes=1 << 40,
    )  # fmt: skip
    done = warmer.run(SliceRef(layer, "eu-west", number, size) for number in range(first, first + count))
    return done.fetched_bytes / done.seconds / MIB


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--guest", nargs=3)
    options.add_argument("--slices", type=int, default=150)
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--origin-ms", type=float, default=50)
    options.add_argument("--connection-mib", type=int, default=64, help="MiB/s of one connection to the origin")
    options.add_argument("--workers", default="auto", help="nginx workers of the cache")
    options.add_argument("--concurrency", type=int, default=16)
    options.add_argument("--mib-per-second", type=int, default=0, help="bound on warming; 0 = none")
    asked = options.parse_args()
    if asked.guest:
        guest(asked.guest[0], f"/eu-west/layers/{asked.guest[1]}.qcow2", float(asked.guest[2]))
        return
    size = (HOT + asked.rounds * asked.slices) * SLICE_BYTES
    with (
        tempfile.TemporaryDirectory(prefix="cwg-", dir="/var/tmp") as folder,
        running_store(Path(folder), niceness=19) as store,
    ):
        layer = store.add(size)
        with far_away(store.address, asked.origin_ms / 1000, asked.connection_mib * MIB) as address:
            there = Region(name="eu-west", endpoint=f"http://{address}", bucket="bucket")
            here = Region(name="us-east", endpoint=f"http://{store.address}", bucket="bucket")
            fleet = Fleet(control_region="us-east", regions=(here, there))
            with running_cache(fleet, "us-east", cache_bytes=8 << 30, workers=asked.workers) as cache:
                measure(cache, layer, size, Path(folder) / "limits", asked)


def measure(cache: CacheServer, layer: str, size: int, folder: Path, asked: argparse.Namespace) -> None:
    bound = (asked.concurrency, asked.mib_per_second * MIB)
    warm_once(cache, layer, 0, HOT, size, folder, *bound)
    alone: list[int] = []
    together: list[int] = []
    rates = []
    for number in range(asked.rounds):
        alone += latencies(start_guest(cache, layer, 5.0), 0.0, float("inf"))
        process = start_guest(cache, layer, 12.0)
        time.sleep(1.0)
        began = time.perf_counter()
        rates.append(warm_once(cache, layer, HOT + number * asked.slices, asked.slices, size, folder, *bound))
        together += latencies(process, began, time.perf_counter())
    for name, values in (("alone", alone), ("while warming", together)):
        middle, high = percentile(values, 0.5), percentile(values, 0.99)
        say(f"{name:14} reads {len(values):6}  p50 {middle:.2f} ms  p90 {percentile(values, 0.9):.2f}  p99 {high:.2f}")
    ratio = percentile(together, 0.99) / percentile(alone, 0.99)
    say(f"warming at {sum(rates) / len(rates):.0f} MiB/s; p99 ratio {ratio:.2f}")


def latencies(process: "subprocess.Popen[str]", began: float, ended: float) -> list[int]:
    """Of the guest's reads in that time, when it has ended."""
    return [taken for moment, taken in json.loads(process.communicate()[0]) if began <= moment / 1e6 <= ended]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
