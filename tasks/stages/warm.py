"""Warm: what the next start of a disk will read, into a region's cache, before it does."""

import logging
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import clock
from tasks.cache.guests import GuestLimits, GuestWatch
from tasks.cache.ledger import SharedBudget
from tasks.cache.regional import NotInCache, RegionalCache, SliceRef
from tasks.cache.slices import wanted_slices
from tasks.cache.tables import LayerTables, Read
from tasks.cache.warmer import Claims, Warmer
from tasks.errors import ChainwrightError, ConfigError, Transient
from tasks.settings import Fleet, Region
from tasks.stages import warm_order
from tasks.stages.warm_chain import LayerAt, Reader, WarmChain, load_chain, read_all_tables, windows
from tasks.stages.warm_limits import limit_now, shared_budget, shared_limits
from tasks.stages.warm_plan import reader_regions
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store, open_stores
from tasks.store.heads import HeadStore
from tasks.units import SLICE_BYTES

logger = logging.getLogger(__name__)

_PROBES = 32  # at once, in a dry run


@dataclass(slots=True)
class _Wish:
    """What the chain's reads touch, as far as it was worked out."""

    slices: int = 0
    bytes: int = 0
    useful_bytes: int = 0
    windows: int = 0
    seen: set[tuple[str, int]] = field(default_factory=set)

    def add(self, one: SliceRef, useful_bytes: int = 0) -> None:
        if (one.layer_id, one.number) not in self.seen:
            self.seen.add((one.layer_id, one.number))
            self.slices += 1
            self.bytes += one.length
        self.useful_bytes += useful_bytes


def warm(
    fleet: Fleet,
    disk_id: str,
    region: str,
    *,
    dry_run: bool,
    max_bytes: int | None = None,
    claims: Claims | None = None,
    run: str = "",
) -> dict[str, Any]:
    """One disk in one region: fetch what its guest's reads touch and the cache lacks. Safe to repeat: it goes on.

    Disks that are warmed under the same name `run` share its bound on bytes; without one, the disk is a run of its own.

    {"disk_id", "region", "dry_run", "chain_layers", "slices", "bytes", "useful_bytes", "chain_bytes", "present",
    "fetched", "fetched_bytes", "shared" (asked for by another disk of this process), "missing", "left_out", "failed",
    "seconds", "first_seconds", "paused_seconds", "note"}. A dry run: "present", "missing", "missing_bytes",
    "missing_remote_bytes" (in other regions), "allowed_bytes" (what a run may fetch), "note" (why not all).
    NotFound: unknown disk. Refused: its chain cannot be read. Transient: some slices could not be fetched (all others
    were; a retry fetches the rest).
    """
    settings = fleet.region(region)
    if not settings.cache_url:
        raise ConfigError(f"regions.{region}.cache_url: the region has no cache to warm")
    stores = open_stores(fleet)
    head = HeadStore(control_store(fleet)).read(disk_id).head
    chain = load_chain(fleet, stores, head, region)
    result = {"disk_id": disk_id, "region": region, "dry_run": dry_run, "chain_layers": len(chain.layers)}
    result["chain_bytes"] = sum(layer.size_bytes for layer in chain.layers)
    if dry_run:
        return result | _rehearse(chain, stores, settings, limit_now(fleet, chain, settings, max_bytes))
    budget = shared_budget(fleet, chain, settings, max_bytes, run or secrets.token_hex(8))
    return result | _fetch(chain, stores, settings, _warmer(fleet, chain, settings, budget, claims or Claims()))


def warm_disks(fleet: Fleet, disk_ids: Sequence[str], region: str, *, dry_run: bool) -> list[dict[str, Any]]:
    """Several disks at once in one region, within one set of limits; what they share is fetched once.

    A disk that fails has {"disk_id", "region", "error"}.
    """
    claims, run = Claims(), secrets.token_hex(8)

    def one(disk_id: str) -> dict[str, Any]:
        try:
            return warm(fleet, disk_id, region, dry_run=dry_run, claims=claims, run=run)
        except ChainwrightError as error:
            return {"disk_id": disk_id, "region": region, "error": str(error)}

    with ThreadPoolExecutor(max(1, len(disk_ids))) as pool:
        try:
            return list(pool.map(one, disk_ids))
        except BaseException:  # an interrupt must not wait for the disks' ends
            claims.stop()
            raise


def warm_result(fleet: Fleet, disk_id: str, *, dry_run: bool = False) -> list[dict[str, Any]]:
    """After a merge: the disk's new chain, in every region whose guests read the disk lately.

    To be called when the new head is published and before the old layers are retired, so that no guest meets a cold
    cache because of maintenance. One result per region as of `warm`, or {"error"}.
    """
    regions = reader_regions(fleet, disk_id)
    return [result for name in regions for result in warm_disks(fleet, [disk_id], name, dry_run=dry_run)]


def is_warm(fleet: Fleet, disk_id: str, region: str) -> bool:
    """Would a full read of the disk in the region ask no other region? What retirement may wait for."""
    return int(warm(fleet, disk_id, region, dry_run=True)["missing"]) == 0


def _rehearse(
    chain: WarmChain, stores: dict[str, ObjectStore], settings: Region, limit: tuple[int, str]
) -> dict[str, Any]:
    """The same slices, each only asked for: is it cached? Tables come from the cache or, a few KiB, from the stores."""
    cache, wish, started = RegionalCache(settings.cache_url, "probe"), _Wish(), clock.monotonic()
    reader = _peeking(cache, stores)
    tables = read_all_tables(chain, reader)
    slices = list(_ordered(chain, tables, reader, wish))
    with ThreadPoolExecutor(_PROBES) as pool:
        present = list(pool.map(cache.has, slices))
    missing = [one for one, here in zip(slices, present, strict=True) if not here]
    remote = sum(one.length for one in missing if one.region != settings.name)
    lacking = sum(one.length for one in missing)
    return _facts(wish) | {
        "present": len(slices) - len(missing),
        "missing": len(missing),
        "missing_bytes": lacking,
        "missing_remote_bytes": remote,
        "allowed_bytes": limit[0],
        "note": limit[1] if lacking > limit[0] else "",
        "seconds": clock.monotonic() - started,
    }


def _warmer(fleet: Fleet, chain: WarmChain, settings: Region, budget: SharedBudget, claims: Claims) -> Warmer:
    return Warmer(
        RegionalCache(settings.cache_url, "warm"),
        shared_limits(fleet, settings.name),
        _watch(fleet, chain, settings),
        concurrency=fleet.warm.concurrency,
        budget=budget,
        claims=claims,
        name=f"{chain.disk_id} in {settings.name}",
    )


def _fetch(chain: WarmChain, stores: dict[str, ObjectStore], settings: Region, warmer: Warmer) -> dict[str, Any]:
    cache, wish = RegionalCache(settings.cache_url, "warm"), _Wish()
    warmer.run(_counted(warm_order.opening(chain.layers), wish))
    reader = _through(cache, warmer, stores)
    tables = read_all_tables(chain, reader)
    rest = _ordered(chain, tables, reader, wish)
    if not chain.fresh:  # else the map is read while its windows are fetched
        rest = iter(list(rest))
        warmer.expect(wish.slices)
    done = warmer.run(rest)
    logger.info("%s", warmer.progress(done.seconds))
    if done.failed:
        causes = "; ".join(f"{name}: {text}" for name, text in done.errors.items())
        raise Transient(
            f"disk {chain.disk_id} in {settings.name}: {done.failed} of {wish.slices} slices not fetched ({causes});"
            f" {done.fetched} fetched, a retry goes on"
        )
    return _facts(wish) | {
        "present": done.present,
        "fetched": done.fetched,
        "fetched_bytes": done.fetched_bytes,
        "missing": done.left_out,
        "left_out": done.left_out,
        "failed": done.failed,
        "shared": wish.slices - done.present - done.fetched - done.left_out - done.failed,
        "seconds": done.seconds,
        "first_seconds": done.first_seconds,
        "paused_seconds": done.paused_seconds,
        "note": done.note,
    }


def _ordered(chain: WarmChain, tables: list[LayerTables], reader: Reader, wish: _Wish) -> Iterator[SliceRef]:
    """Every slice once, in the order in which a start wants them."""
    yield from _counted(warm_order.tables_of_open(chain.layers, tables), wish)
    yield from _counted(warm_order.boot_first(chain), wish)
    for window, run_of in windows(chain, tables, reader):
        wanted = wanted_slices(run_of, window)
        wish.windows += 1
        wish.useful_bytes += int(wanted.useful_bytes.sum())
        yield from _counted(warm_order.by_heat(chain, run_of, wanted), wish)


def _counted(slices: Iterator[SliceRef], wish: _Wish) -> Iterator[SliceRef]:
    for one in slices:
        if (one.layer_id, one.number) not in wish.seen:
            wish.add(one)
            yield one


def _facts(wish: _Wish) -> dict[str, Any]:
    return {"slices": wish.slices, "bytes": wish.bytes, "useful_bytes": wish.useful_bytes, "windows": wish.windows}


def _through(cache: RegionalCache, warmer: Warmer, stores: dict[str, ObjectStore]) -> Reader:
    """Reads by the ordinary URL, of slices that were fetched first: what is read is warm thereafter.

    What a limit forbids to fetch is read without filling the cache.
    """
    peeking = _peeking(cache, stores)

    def reader(layer: LayerAt) -> Read:
        def read(start: int, length: int) -> bytes:
            numbers = range(start // SLICE_BYTES, (start + length - 1) // SLICE_BYTES + 1)
            slices = [SliceRef(layer.layer_id, layer.region, number, layer.size_bytes) for number in numbers]
            if all(warmer.fetch_now(one) for one in slices):
                return cache.read(layer.layer_id, layer.region, start, length)
            return peeking(layer)(start, length)

        return read

    return reader


def _peeking(cache: RegionalCache, stores: dict[str, ObjectStore]) -> Reader:
    """Reads that leave the cache as it is."""

    def reader(layer: LayerAt) -> Read:
        def read(start: int, length: int) -> bytes:
            try:
                return cache.read(layer.layer_id, layer.region, start, length, cached_only=True)
            except NotInCache:
                return stores[layer.region].get_range(keys.layer(layer.layer_id), start, length)

        return read

    return reader


def _watch(fleet: Fleet, chain: WarmChain, settings: Region) -> GuestWatch:
    limits = GuestLimits(
        latency_factor=fleet.warm.guest_latency_factor,
        misses_per_second=fleet.warm.guest_misses_per_second,
        max_pause_seconds=fleet.warm.max_pause_seconds,
    )
    log = Path(settings.cache_log) if settings.cache_log and "://" not in settings.cache_log else None
    probe = RegionalCache(settings.cache_url, "probe")
    tip = chain.layers[0]
    one = SliceRef(tip.layer_id, tip.region, 0, tip.size_bytes)
    return GuestWatch(log, lambda: probe.seconds_of_a_hit(one), limits)
