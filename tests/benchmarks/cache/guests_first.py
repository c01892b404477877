"""Does warming slow down guests? One guest reads cached blocks in a loop; p50 and p99 without and with warming.

python -m tests.benchmarks.cache.guests_first [--guest nbd|http] [--slices 100] [--rounds 4] [--origin-ms 50]

Rounds without and with warming alternate, so that the machine's own noise is in both; what two halves of the rounds
without warming differ by is printed too. The guest is a process of its own: it reads over NBD as guests do (`nbd`, from
an exporter with so little memory that nearly all reads go on to the cache), or the cache directly (`http`). The origin
(another nginx) and the network to it are other regions' machines: they run only when nothing else would (SCHED_IDLE).
The guest reads longer than warming takes: only reads that were made meanwhile count.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tasks.cache.guests import GuestLimits, GuestWatch
from tasks.cache.limits import SharedLimits
from tasks.cache.regional import RegionalCache, SliceRef
from tasks.cache.warmer import Warmer
from tasks.settings import Fleet, Region
from tasks.units import MIB, SLICE_BYTES
from tests.benchmarks.cache.far import far_away
from tests.benchmarks.cache.origin import running_store
from tests.support.cache_server import CacheServer, running_cache
from tests.support.exporter import exporter

HOT = 32  # slices that the guest reads


@contextlib.contextmanager
def guest_argv(kind: str, cache: CacheServer, layer: str) -> Iterator[list[str]]:
    """The command of a guest that reads the first slices, without its last argument, the seconds."""
    size = str(HOT * SLICE_BYTES)
    if kind == "http":
        path = f"/eu-west/layers/{layer}.qcow2"
        yield [sys.executable, "-m", "tests.benchmarks.cache.http_guest", cache.url, path, size]
        return
    with exporter(cache.url, memory_bytes=4 * MIB) as nbd:
        yield ["/usr/bin/python3", "-m", "tests.benchmarks.cache.nbd_guest", nbd.uri(layer), size]


def start(argv: list[str], seconds: float) -> "subprocess.Popen[str]":
    return subprocess.Popen([*argv, str(seconds)], stdout=subprocess.PIPE, text=True)


def percentile(values: list[int], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] / 1000


def warm_once(
    cache: CacheServer, layer: str, first: int, count: int, size: int, folder: Path, concurrency: int
) -> float:
    probe = RegionalCache(cache.url, "probe")
    one = SliceRef(layer, "eu-west", 0, size)
    watch = GuestWatch(cache.access_log, lambda: probe.seconds_of_a_hit(one), GuestLimits())
    warmer = Warmer(
        RegionalCache(cache.url, "warm"), SharedLimits(folder, concurrency, 0), watch,
        concurrency=concurrency, max_bytes=1 << 40,
    )  # fmt: skip
    done = warmer.run(SliceRef(layer, "eu-west", number, size) for number in range(first, first + count))
    return done.fetched_bytes / done.seconds / MIB


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--guest", choices=["nbd", "http"], default="nbd")
    options.add_argument("--slices", type=int, default=100)
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--origin-ms", type=float, default=50)
    options.add_argument("--connection-mib", type=int, default=64, help="MiB/s of one connection to the origin")
    options.add_argument("--workers", default="auto", help="nginx workers of the cache")
    options.add_argument("--concurrency", type=int, default=16)
    asked = options.parse_args()
    size = (HOT + asked.rounds * asked.slices) * SLICE_BYTES
    with (
        tempfile.TemporaryDirectory(prefix="cwg-", dir="/var/tmp") as folder,
        running_store(Path(folder), elsewhere=True) as store,
    ):
        layer = store.add(size)
        with far_away(store.address, asked.origin_ms / 1000, asked.connection_mib * MIB) as address:
            there = Region(name="eu-west", endpoint=f"http://{address}", bucket="bucket")
            here = Region(name="us-east", endpoint=f"http://{store.address}", bucket="bucket")
            fleet = Fleet(control_region="us-east", regions=(here, there))
            with running_cache(fleet, "us-east", cache_bytes=8 << 30, workers=asked.workers) as cache:
                measure(cache, layer, size, Path(folder) / "limits", asked)


def measure(cache: CacheServer, layer: str, size: int, folder: Path, asked: argparse.Namespace) -> None:
    warm_once(cache, layer, 0, HOT, size, folder, asked.concurrency)
    alone: tuple[list[int], list[int]] = ([], [])  # by turns
    together: list[int] = []
    rates = []
    with guest_argv(asked.guest, cache, layer) as argv:
        for number in range(asked.rounds):
            alone[number % 2].extend(latencies(start(argv, 5.0), 0.0, float("inf")))
            process = start(argv, 20.0)
            time.sleep(1.0)
            began = time.perf_counter()
            first = HOT + number * asked.slices
            rates.append(warm_once(cache, layer, first, asked.slices, size, folder, asked.concurrency))
            together += latencies(process, began, time.perf_counter())
    quiet = alone[0] + alone[1]
    for name, values in (("alone", quiet), ("while warming", together)):
        middle, high = percentile(values, 0.5), percentile(values, 0.99)
        say(f"{name:14} reads {len(values):6}  p50 {middle:.2f} ms  p90 {percentile(values, 0.9):.2f}  p99 {high:.2f}")
    halves = [percentile(values, 0.99) for values in alone if values]
    ratio = percentile(together, 0.99) / percentile(quiet, 0.99)
    say(f"warming at {sum(rates) / len(rates):.0f} MiB/s; p99 ratio {ratio:.2f}; noise {max(halves) / min(halves):.2f}")


def latencies(process: "subprocess.Popen[str]", began: float, ended: float) -> list[int]:
    """Of the guest's reads in that time, when it has ended."""
    return [taken for moment, taken in json.loads(process.communicate()[0]) if began <= moment / 1e6 <= ended]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
