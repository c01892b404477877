"""Warming as a task does it, of given slices."""

from pathlib import Path

from tasks.cache.guests import GuestLimits, GuestWatch
from tasks.cache.limits import SharedLimits
from tasks.cache.regional import RegionalCache, SliceRef
from tasks.cache.warmer import Warmer
from tests.support.cache_server import CacheServer

CONCURRENCY = 16


def new_warmer(
    cache: CacheServer, probed: SliceRef, folder: Path, beside_guests: int, watch: GuestWatch | None = None
) -> Warmer:
    """`beside_guests`: bytes per second; 0 = no bound."""
    return Warmer(
        RegionalCache(cache.url, "warm"),
        SharedLimits(folder, CONCURRENCY, 0, beside_guests),
        watch or new_watch(cache, probed),
        concurrency=CONCURRENCY,
    )


def new_watch(cache: CacheServer, probed: SliceRef) -> GuestWatch:
    """It measures hits of that slice."""
    probe = RegionalCache(cache.url, "probe")
    return GuestWatch(cache.access_log, lambda: probe.seconds_of_a_hit(probed), GuestLimits())
