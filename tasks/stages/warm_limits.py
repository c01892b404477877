"""How much of a disk may be warmed: the run's bound on bytes, and what the cache's bound on disk leaves."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from tasks.cache.ledger import RUN_LIMIT, ByDay, SharedBudget, WarmLedger
from tasks.cache.limits import SharedLimits
from tasks.settings import Fleet, Region
from tasks.stages.warm_chain import WarmChain
from tasks.units import human_bytes


def shared_limits(fleet: Fleet, region: str) -> SharedLimits:
    """Slots and bandwidth of the region's warming on this host."""
    asked = fleet.warm
    return SharedLimits(
        _folder(fleet, region), asked.concurrency, asked.bytes_per_second, asked.bytes_per_second_beside_guests
    )


def shared_budget(fleet: Fleet, chain: WarmChain, settings: Region, max_bytes: int | None, run: str) -> SharedBudget:
    """Of one disk in a run: `max_bytes` (default: the fleet's) is for all disks of that run."""
    room = partial(_room, chain, _capacity(fleet, settings))
    return SharedBudget(WarmLedger(_folder(fleet, settings.name)), run, _run_bytes(fleet, max_bytes), room)


def limit_now(fleet: Fleet, chain: WarmChain, settings: Region, max_bytes: int | None) -> tuple[int, str]:
    """Bytes that a new run may fetch of the disk, and what bounds them."""
    warmed = WarmLedger(_folder(fleet, settings.name)).by_day()
    allowed, note = _room(chain, _capacity(fleet, settings), warmed)
    asked = _run_bytes(fleet, max_bytes)
    return (allowed, note) if allowed <= asked else (asked, RUN_LIMIT)


def allowed_bytes(chain: WarmChain, capacity: int) -> tuple[int, str]:
    """How much may be fetched without pushing out what is hotter, and why not more.

    The cache drops what was not read for longest. While all that came in fits, nothing is dropped. Beyond that, the
    days whose fetches fill the cache are its horizon: what was read since then is kept. A disk that was read within the
    horizon is as hot as what it pushes out; a colder one may only use the room that is left. `capacity`: bytes of the
    cache that warming may fill, 0 = unknown.
    """
    if not capacity:
        return 1 << 62, ""
    total, horizon = 0, None
    for days_ago, fetched in chain.pressure:
        total += fetched
        if total > capacity and horizon is None:
            horizon = days_ago
    if horizon is None:
        room = max(0, capacity - total)
        return room, f"the cache's share for warming ({human_bytes(capacity)}) is full"
    if chain.disk_days_ago is not None and chain.disk_days_ago <= horizon:
        return capacity // 2, "half of the cache's share for warming is one disk's limit"
    return 0, f"colder than what the cache holds (all of it was read within {horizon + 1} days)"


def _run_bytes(fleet: Fleet, max_bytes: int | None) -> int:
    return fleet.warm.bytes_per_run if max_bytes is None else max_bytes


def _capacity(fleet: Fleet, settings: Region) -> int:
    return int(fleet.cache_bytes(settings.name) * fleet.warm.cache_share)


def _room(chain: WarmChain, capacity: int, warmed: ByDay) -> tuple[int, str]:
    """What other disks' warming brought in fills the cache as guests' misses do."""
    return allowed_bytes(replace(chain, pressure=sorted([*chain.pressure, *warmed])), capacity)


def _folder(fleet: Fleet, region: str) -> Path:
    return Path(fleet.work_dir) / "warm" / region
