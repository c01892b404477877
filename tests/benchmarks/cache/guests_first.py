"""Does warming slow down guests? One guest reads cached blocks in a loop; p50 and p99 without and with warming.

python -m tests.benchmarks.cache.guests_first [--guest nbd|http] [--rounds 18] [--seconds 3] [--limit 300]

The guest reads all the time, as a process of its own: over NBD as guests do (`nbd`, from an exporter with so little
memory that nearly all reads go on to the cache), or from the cache directly (`http`). Rounds without and with warming
take turns, so that the machine's own noise is in both. A round in which other processes took more than a twentieth of a
core is done again. The origin (another nginx) and the network to it are other machines: they run only when nothing else
would. `--beside-mib`: MiB/s beside guests, 0 = no bound; `--null`: no warming in either half.
"""

import argparse
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import numpy.typing

from tasks.cache.regional import SliceRef
from tasks.settings import Fleet, Region, Warm
from tasks.units import MIB, SLICE_BYTES
from tests.benchmarks.cache.far import far_away
from tests.benchmarks.cache.origin import Store, running_store
from tests.benchmarks.cache.others import Others
from tests.benchmarks.cache.warming import new_warmer, new_watch
from tests.benchmarks.resampled import resampled
from tests.support.cache_server import CacheServer, running_cache
from tests.support.exporter import exporter

HOT = 32  # slices that the guest reads
OBJECT = 256  # slices of an object
OTHERS_CORES = 0.05
Taken = numpy.typing.NDArray[numpy.int64]


@dataclass(slots=True)
class Half:
    """Rounds of one kind: what the guest's reads took, microseconds by round, and what was fetched meanwhile."""

    rounds: list[Taken] = field(default_factory=list)
    fetched_bytes: int = 0
    seconds: float = 0.0

    def ms(self, share: float, rounds: Sequence[int] | None = None) -> float:
        """What so many of all reads, or of those of some rounds, stay below."""
        chosen = self.rounds if rounds is None else [self.rounds[one] for one in rounds]
        return percentile(chosen, share)

    @property
    def spread(self) -> str:
        """Quartiles of the rounds' own p99."""
        low, middle, high = statistics.quantiles([percentile([one], 0.99) for one in self.rounds], n=4)
        return f"{low:.2f} {middle:.2f} {high:.2f}"

    @property
    def noise(self) -> float:
        """p99 of every other round, against the rest of them."""
        high = [percentile(self.rounds[first::2], 0.99) for first in (0, 1)]
        return max(high) / min(high)


def percentile(rounds: Sequence[Taken], share: float) -> float:
    """Milliseconds."""
    return float(numpy.quantile(numpy.concatenate(rounds), share, method="higher")) / 1000


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


@contextlib.contextmanager
def far_cache(
    origin_ms: float, connection_mib: int, workers: str = "auto", *, idle: bool = True
) -> Iterator[tuple[CacheServer, Store]]:
    """A cache and, so far away, its origin. `idle`: origin and network get only what this machine leaves."""
    with (
        tempfile.TemporaryDirectory(prefix="cwg-", dir="/var/tmp") as folder,
        running_store(Path(folder), idle=idle) as store,
        far_away(store.address, origin_ms / 1000, connection_mib * MIB, idle=idle) as address,
    ):
        there = Region(name="eu-west", endpoint=f"http://{address}", bucket="bucket")
        here = Region(name="us-east", endpoint=f"http://{store.address}", bucket="bucket")
        fleet = Fleet(control_region="us-east", regions=(here, there))
        with running_cache(fleet, "us-east", cache_bytes=16 << 30, workers=workers) as cache:
            yield cache, store


class Measurement:
    """Rounds beside one guest, until there are enough clean ones of both kinds or `limit` seconds are over."""

    def __init__(
        self, cache: CacheServer, store: Store, beside_guests: int, others_cores: float = OTHERS_CORES
    ) -> None:
        self.alone, self.warming = Half(), Half()
        self.discarded = 0
        self._others_cores = others_cores
        self.layer = store.add(OBJECT * SLICE_BYTES)
        self._new = self._slices(store)
        self._cache, self._limits, self._beside_guests = cache, store.run / "limits", beside_guests
        self._hot = [self._slice(self.layer, number) for number in range(HOT)]
        new_warmer(cache, self._hot[0], self._limits, 0).run(self._hot)
        self._watch = new_watch(cache, self._hot[0])

    def run(self, kind: str, rounds: int, seconds: float, limit: float, *, null: bool = False) -> None:
        """Fill both halves."""
        done: list[tuple[Half, float, float]] = []
        with guest_argv(kind, self._cache, self.layer) as argv:
            guest = subprocess.Popen([*argv, str(limit + 1)], stdout=subprocess.PIPE, text=True)
            end = time.monotonic() + limit
            time.sleep(1.0)
            for half in itertools.cycle((self.alone, self.warming)):
                if time.monotonic() + 2 * seconds > end or len(done) >= 2 * rounds:
                    break
                if sum(one is half for one, _, _ in done) < rounds:
                    done += self._round(half, seconds, warm=half is self.warming and not null)
            guest.terminate()
            reads = json.loads(guest.communicate()[0])
        for half, began, ended in done:
            half.rounds.append(numpy.array([taken for moment, taken in reads if began <= moment / 1e6 <= ended]))

    def _round(self, half: Half, seconds: float, *, warm: bool) -> list[tuple[Half, float, float]]:
        with Others() as others:
            began = time.perf_counter()
            fetched = self._warm(began + seconds) if warm else time.sleep(seconds) or 0
            ended = time.perf_counter()
        if others.cores > self._others_cores:
            self.discarded += 1
            return []
        half.fetched_bytes += fetched
        half.seconds += ended - began
        return [(half, began, ended)]

    def _warm(self, end: float) -> int:
        warmer = new_warmer(self._cache, self._hot[0], self._limits, self._beside_guests, self._watch)
        return warmer.run(itertools.takewhile(lambda _: time.perf_counter() < end, self._new)).fetched_bytes

    def _slices(self, store: Store) -> Iterator[SliceRef]:
        """Never fetched before, without end."""
        while True:
            layer = store.again(self.layer)
            yield from (self._slice(layer, number) for number in range(OBJECT))

    def _slice(self, layer: str, number: int) -> SliceRef:
        return SliceRef(layer, "eu-west", number, OBJECT * SLICE_BYTES)

    def _ratio(self, rounds: Sequence[int]) -> float:
        return self.warming.ms(0.99, rounds) / self.alone.ms(0.99, rounds)

    def lines(self) -> Iterator[str]:
        """What came out."""
        if min(len(self.alone.rounds), len(self.warming.rounds)) < 2:
            yield f"not measured: other processes took part in {self.discarded} rounds"
            return
        for name, half in (("alone", self.alone), ("warming", self.warming)):
            reads = sum(map(len, half.rounds))
            levels = "  ".join(f"p{100 * share:g} {half.ms(share):.2f}" for share in (0.5, 0.9, 0.99, 0.999))
            yield f"{name:8} rounds {len(half.rounds):3}  reads {reads:6}  {levels} ms  p99 by round {half.spread}"
        rate = self.warming.fetched_bytes / self.warming.seconds / MIB
        yield f"warming at {rate:.1f} MiB/s; noise {self.alone.noise:.2f}"
        both = min(len(self.alone.rounds), len(self.warming.rounds))
        yield f"p99 ratio {resampled(both, self._ratio)}"
        yield f"rounds done again, for other processes: {self.discarded}"


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--guest", choices=["nbd", "http"], default="nbd")
    options.add_argument("--rounds", type=int, default=18)
    options.add_argument("--seconds", type=float, default=3.0)
    options.add_argument("--limit", type=float, default=300.0)
    options.add_argument("--origin-ms", type=float, default=50)
    options.add_argument("--connection-mib", type=int, default=64, help="MiB/s of one connection to the origin")
    options.add_argument("--beside-mib", type=float, default=Warm().bytes_per_second_beside_guests / MIB)
    options.add_argument("--workers", default="auto", help="nginx workers of the cache")
    options.add_argument("--null", action="store_true")
    asked = options.parse_args()
    with far_cache(asked.origin_ms, asked.connection_mib, asked.workers) as (cache, store):
        found = Measurement(cache, store, int(asked.beside_mib * MIB))
        found.run(asked.guest, asked.rounds, asked.seconds, asked.limit, null=asked.null)
        sys.stdout.writelines(f"{line}\n" for line in found.lines())


if __name__ == "__main__":
    main()
