"""What one merge will move, per engine, from the manifest's sums. Chosen actions are refined with their extents.

Bytes are counted at the stores: fetched by the worker (`read`), sent by it (`write`), copied by the store (`copy`).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tasks.chain.parts import COPY_BYTES, MIN_PART_BYTES, SEND_BYTES
from tasks.plan.inputs import ChainInput, LayerInput, Prices
from tasks.plan.metadata import HEADER_BYTES
from tasks.plan.policy import Policy
from tasks.plan.runs import Span
from tasks.plan.steps import Cost
from tasks.units import KIB, MIB

WORKER_BYTES_PER_SECOND = 100e6  # one worker, store to work directory (seconds are an estimate, bytes are a promise)
COPY_BYTES_PER_SECOND = 400e6
ACTION_SECONDS = 1.5  # tools started, checks, journal, lease, publication, receipt: measured on small merges
FRONT_BYTES = 256 * KIB  # header, refcounts and L1 of an image that is laid out here
ACTION_REQUESTS = 1  # HEAD of the new layer; besides one for each layer of the chain


@dataclass(slots=True)
class Tally:
    """Adds up one action's effort."""

    read: Counter[str] = field(default_factory=Counter)
    write: Counter[str] = field(default_factory=Counter)
    copy: Counter[str] = field(default_factory=Counter)  # by source region
    requests: int = 0
    temp: int = 0

    def fetch(self, region: str, count_bytes: int, requests: int | None = None) -> None:
        """Bytes through the worker."""
        if count_bytes > 0:
            self.read[region] += count_bytes
            self.requests += 1 + count_bytes // (8 * MIB) if requests is None else requests

    def send(self, region: str, count_bytes: int, requests: int | None = None) -> None:
        """Bytes from the worker to a store."""
        if count_bytes > 0:
            self.write[region] += count_bytes
            self.requests += 1 + count_bytes // SEND_BYTES if requests is None else requests

    def copied(self, region: str, count_bytes: int, requests: int | None = None) -> None:
        """Bytes that the store copies itself."""
        if count_bytes > 0:
            self.copy[region] += count_bytes
            self.requests += 1 + count_bytes // COPY_BYTES if requests is None else requests

    def cost(self, home: str, prices: Prices) -> Cost:
        """The sum, with money and time."""
        out = self.read + self.copy
        egress = sum(prices.egress_usd(region, home, count) for region, count in out.items())
        through, copied = self.read.total() + self.write.total(), self.copy.total()
        far = max((prices.rtt_seconds(region, home) for region in out), default=prices.local_rtt_seconds)
        seconds = through / WORKER_BYTES_PER_SECOND + copied / COPY_BYTES_PER_SECOND
        seconds += ACTION_SECONDS + self.requests * far / 16
        return Cost(
            read_bytes=dict(sorted(self.read.items())),
            write_bytes=dict(sorted(self.write.items())),
            copy_bytes=dict(sorted(self.copy.items())),
            requests=self.requests,
            egress_usd=round(egress, 9),
            temp_bytes=self.temp,
            seconds=round(seconds, 3),
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """One run with what survives of each of its layers."""

    run: tuple[LayerInput, ...]
    above: tuple[LayerInput, ...]
    below: tuple[LayerInput, ...]  # base first
    survivors: tuple[int, ...]  # stored bytes of each run layer that the result keeps; [0] is the top's
    home: str

    @property
    def moved(self) -> int:
        """Stored bytes of the lower layers that survive."""
        return sum(self.survivors[1:])


def parts_of(chain: ChainInput, span: Span) -> Parts:
    """Cut a chain at a run."""
    run = chain.layers[span.top : span.bottom + 1]
    stolen = Counter[int]()
    for steal in chain.steals:
        if span.top <= steal.upper and steal.lower <= span.bottom:
            stolen[steal.lower] += steal.bytes
    survivors = tuple(max(0, layer.stored_bytes - stolen[span.top + k]) for k, layer in enumerate(run))
    return Parts(run, chain.layers[: span.top], chain.layers[span.bottom + 1 :], survivors, chain.head.home_region)


def estimate(engine: str, parts: Parts, policy: Policy, prices: Prices) -> Cost:
    """Predicted effort of one engine on one run, by sums."""
    tally = Tally(requests=ACTION_REQUESTS + len(parts.above) + len(parts.run) + len(parts.below))
    if engine == "compose":
        _compose(tally, parts, policy.max_garbage_share, prices)
    else:
        _merge_into_top(tally, parts, prices)
    if engine == "rebase":
        _compare(tally, parts)
    for layer in parts.above:
        _first_part(tally, layer, parts.home, prices)
    return tally.cost(parts.home, prices)


def _opened(layer: LayerInput) -> int:
    """Metadata of a layer as it is fetched: header, refcount table, then the tables."""
    return min(layer.size_bytes, 2 * HEADER_BYTES + layer.l2_tables * layer.cluster_size)


def _inflated(layer: LayerInput, stored: int) -> int:
    """Bytes after QEMU has written them: compressed clusters become plain (hazard 6)."""
    guest = layer.data_bytes + layer.compressed_bytes
    return round(stored * guest / layer.stored_bytes) if layer.stored_bytes else 0


def _merge_into_top(tally: Tally, parts: Parts, prices: Prices) -> None:
    """What stream and rebase share: the survivors travel, the top's data is copied by the store, tables are new."""
    new = 0
    for layer, survives in zip(parts.run[1:], parts.survivors[1:], strict=True):
        tally.fetch(layer.region, survives + _opened(layer))
        tally.temp += survives + _opened(layer)
        new += _inflated(layer, survives)
    top, tables = parts.run[0], _opened(parts.run[0])
    copies = prices.copies(top.region, parts.home) and top.stored_bytes >= MIN_PART_BYTES
    fed = min(top.stored_bytes, max(0, MIN_PART_BYTES - tables - new)) if copies else top.stored_bytes
    tally.fetch(top.region, tables + fed)
    tally.send(parts.home, tables + new + fed)
    tally.copied(top.region, top.stored_bytes - fed)
    tally.fetch(parts.home, tables)
    tally.temp += 2 * (tables + new + fed)


def _first_part(tally: Tally, top: LayerInput, home: str, prices: Prices) -> None:
    """A new object that equals an old one but for its first part; it is read back."""
    copied = max(0, top.size_bytes - MIN_PART_BYTES) if prices.copies(top.region, home) else 0
    sent = top.size_bytes - copied
    held = max(sent, _opened(top))
    tally.fetch(top.region, held)
    tally.send(home, sent)
    tally.copied(top.region, copied)
    tally.fetch(home, _opened(top))
    tally.temp += held


def _compare(tally: Tally, parts: Parts) -> None:
    """What rebase adds: the base's data under every surviving cluster is read."""
    size = max(parts.run[0].virtual_size, 1)
    for layer in parts.below:
        share = min(1.0, layer.allocated_bytes / size)
        compared = min(layer.stored_bytes, round(parts.moved * share))
        tally.fetch(layer.region, _opened(layer) + compared)
        tally.temp += _opened(layer) + compared


def _compose(tally: Tally, parts: Parts, garbage_share: float, prices: Prices) -> None:
    """Dense layers are copied by the store; sparse or small ones are fetched and packed; metadata is written anew."""
    metadata = FRONT_BYTES
    for layer, survives in zip(parts.run, parts.survivors, strict=True):
        metadata += layer.l2_tables * layer.cluster_size
        dense = survives >= (1 - garbage_share) * max(layer.stored_bytes, 1)
        opened = min(layer.size_bytes, max(HEADER_BYTES, layer.cluster_size))
        if dense and survives >= MIN_PART_BYTES and prices.copies(layer.region, parts.home):
            tally.copied(layer.region, layer.stored_bytes)
        else:
            opened += survives
            tally.send(parts.home, survives)
        tally.fetch(layer.region, opened)
        tally.temp += opened
    tally.send(parts.home, metadata)
    tally.fetch(parts.home, metadata)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of several costs; seconds and temporary space are added too."""
    sums: dict[str, Counter[str]] = {"read": Counter(), "write": Counter(), "copy": Counter()}
    requests = temp = 0
    usd = seconds = 0.0
    for cost in costs:
        sums["read"].update(cost.read_bytes)
        sums["write"].update(cost.write_bytes)
        sums["copy"].update(cost.copy_bytes)
        requests, temp = requests + cost.requests, temp + cost.temp_bytes
        usd, seconds = usd + cost.egress_usd, seconds + cost.seconds
    reads, writes, copies = (dict(sorted(sums[name].items())) for name in ("read", "write", "copy"))
    return Cost(reads, writes, copies, requests, round(usd, 9), temp, round(seconds, 3))
