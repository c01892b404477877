"""What is warmed where, in words: a hotspot's action, and what else the policy could do about it. Pure."""

from dataclasses import dataclass

from tasks.units import human_bytes


@dataclass(frozen=True, slots=True)
class WarmTarget:
    """One disk in one region. `reason`: remote_misses | replaced | start_due | asked_for."""

    disk_id: str
    region: str
    reason: str
    home_region: str
    miss_bytes: int = 0  # fetched from other regions while the disk's guests there waited
    starts: int = 0


def why(target: WarmTarget, *, bring_home: bool) -> str:
    """The reason and, for a hotspot at the disk's home, what compaction does about it."""
    if target.reason == "replaced":
        return "a merge replaced layers that it reads there; they are kept until the new one is cached"
    if target.reason == "start_due":
        return f"its next start there is due, by the rhythm of the last {target.starts}"
    if target.reason == "asked_for":
        return "asked for"
    waited = f"its guests there waited for {human_bytes(target.miss_bytes)} from other regions"
    if target.region != target.home_region:
        return f"{waited}; the disk lives in {target.home_region}: merging cannot help"
    if bring_home:
        return f"{waited}; policy.bring_home: maintenance also merges such chains into {target.home_region}"
    return f"{waited}; policy.bring_home would merge such chains into {target.home_region}"
