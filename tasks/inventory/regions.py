"""How complete a scan was, region by region."""

from collections.abc import Sequence
from typing import Any

from tasks.inventory.snapshot import RegionState, Snapshot

# A listing that lost more than this share of a region at once, and so many objects (or all of them), is not believed
# until the next one agrees (hazard 22). Must not be below policy.safety.max_retired_share, or an allowed retirement
# would look like a fault.
MAX_LOST_SHARE = 0.2
MIN_LOST = 50


def region_states(
    last: Snapshot | None, results: Sequence[dict[str, Any]], regions: Sequence[str]
) -> dict[str, RegionState]:
    """The state of each region. Not complete: no results, or not from all shards, or a listing that shrank suddenly."""
    return {region: _state(last, [r for r in results if r["region"] == region], region) for region in regions}


def _state(last: Snapshot | None, results: list[dict[str, Any]], region: str) -> RegionState:
    before = last.regions.get(region, RegionState()) if last else RegionState()
    shards = {result["number"] for result in results}
    if not results or len(shards) != results[0]["of"]:
        of = results[0]["of"] if results else "?"
        note = f"{len(shards)} of {of} shards were scanned"
        return RegionState(before.objects, False, note, before.listed_at)
    objects = sum(result["objects"] for result in results)
    listed_at = min(result["listed_at"] for result in results)
    lost = before.objects - objects
    sudden = lost > before.objects * MAX_LOST_SHARE and (lost >= MIN_LOST or not objects)
    if before.complete and sudden:
        # Counted as seen: if the next listing has no more, it is believed.
        return RegionState(objects, False, f"listing_shrunk from {before.objects} to {objects}", listed_at)
    return RegionState(objects, True, "", listed_at)
