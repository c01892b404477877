"""The head record: which layer is a disk's tip, who runs it, who may change it. Pure; `tasks.store.heads` writes it."""

import datetime
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from tasks.errors import Refused

HeadKind = Literal["disk", "snapshot"]
HeadState = Literal["idle", "running"]
TRAIL_LENGTH = 64  # writes that a record remembers (2 KiB); a writer that asks later than that gets no answer
WriteFate = Literal["mine", "other", "pending", "unknown"]


@dataclass(frozen=True, slots=True)
class Lease:
    """The expiring right of one attempt of one action to change a head."""

    action_id: str
    attempt_id: str
    expires_at: str  # ISO 8601, UTC, by the store's clock
    token: int  # the head's generation when the lease was written: the fencing token


@dataclass(frozen=True, slots=True)
class Head:
    """`heads/<disk_id>.json`. Every write raises `generation` by one and carries the writer's `attempt_id`."""

    disk_id: str
    tip: str  # layer id
    kind: HeadKind
    home_region: str
    state: HeadState = "idle"
    generation: int = 1
    attempt_id: str = ""
    host: str | None = None  # of the running VM
    qmp: str | None = None  # its QMP address: unix:/path or tcp:host:port
    lease: Lease | None = None
    action_id: str | None = None  # the last action that swung this head; its receipt says what was before
    virtual_size: int = 0
    updated_at: str = ""
    overlay: str | None = None  # path, on the host, of the file that the running VM writes
    sealed: tuple[tuple[str, str], ...] = ()  # (file name on the host, layer id) of what was uploaded since the start
    stream_base: str | None = None  # layer that a live stream puts (or has put) the overlay on; its header decides
    trail: tuple[str, ...] = ()  # attempt ids of the last writes, newest last: who wrote generation g

    def next(self, attempt_id: str, updated_at: str, **changes: Any) -> "Head":
        """The record after one write: generation + 1, the writer's id, and the changes."""
        trail = (*self.trail, attempt_id)[-TRAIL_LENGTH:]
        return replace(
            self, generation=self.generation + 1, attempt_id=attempt_id, updated_at=updated_at, trail=trail, **changes
        )

    def writer_of(self, generation: int) -> str | None:
        """The attempt that wrote that generation; None if it is not remembered (or not written yet)."""
        back = self.generation - generation
        if back == 0:
            return self.attempt_id
        return self.trail[-1 - back] if 0 < back < len(self.trail) else None


def head_to_json(head: Head) -> dict[str, Any]:
    """JSON form; the inverse of `head_from_json`."""
    return asdict(head)


def head_from_json(raw: dict[str, Any]) -> Head:
    """Raises KeyError or TypeError on fields that are missing or unknown."""
    lease = raw.get("lease")
    sealed = tuple((name, layer_id) for name, layer_id in raw.get("sealed") or ())
    trail = tuple(raw.get("trail") or ())
    return Head(**{**raw, "lease": Lease(**lease) if lease else None, "trail": trail, "sealed": sealed})


def fate_of_write(written: Head, current: Head) -> WriteFate:
    """What became of a write whose answer was lost, judged by the record that is there now.

    ```
    current.generation   writer of written.generation    fate
    older                                                 pending: not applied (yet)
    same or newer        this attempt                     mine, whatever was written on top of it
    same or newer        another attempt                  other
    newer                no longer remembered             unknown
    ```
    Without the trail "another record is there" would read as lost although ours was applied and a VM started on it: its
    layer would be thrown away under a running disk.
    """
    if current.generation < written.generation:
        return "pending"
    writer = current.writer_of(written.generation)
    if writer is None:
        return "unknown"
    return "mine" if writer == written.attempt_id else "other"


def lease_is_live(head: Head, now: datetime.datetime) -> bool:
    """Does somebody hold an unexpired lease? `now` by the store's clock. An unreadable expiry counts as live."""
    if head.lease is None:
        return False
    try:
        return datetime.datetime.fromisoformat(head.lease.expires_at) > now
    except (ValueError, TypeError):
        return True


def check_leasable(head: Head, action_id: str, now: datetime.datetime) -> None:
    """Refused (`disk_running`, `leased`) if the action may not take the lease.

    Another attempt of the same action takes over at once: the first one's conditional writes fail from then on.
    """
    if head.state == "running":
        raise Refused("disk_running", f"disk {head.disk_id} runs on {head.host or 'an unnamed host'}")
    if head.lease is not None and head.lease.action_id != action_id and lease_is_live(head, now):
        raise Refused(
            "leased", f"disk {head.disk_id} is leased to action {head.lease.action_id} until {head.lease.expires_at}"
        )


def check_startable(head: Head) -> None:
    """Refused (`disk_running`, `snapshot_head`) if no VM may be started. A lease never stands in the way."""
    if head.kind == "snapshot":
        raise Refused("snapshot_head", f"{head.disk_id} is a snapshot: clone it to a disk, then start that")
    if head.state == "running":
        raise Refused("disk_running", f"disk {head.disk_id} already runs on {head.host or 'an unnamed host'}")


def check_stoppable(head: Head) -> None:
    """Refused (`disk_idle`) if the disk does not run."""
    if head.state != "running":
        raise Refused("disk_idle", f"disk {head.disk_id} does not run")


def check_held(head: Head) -> Lease:
    """The lease that the record carries; Refused (`no_lease`) if there is none."""
    if head.lease is None:
        raise Refused("no_lease", f"disk {head.disk_id}: this record carries no lease")
    return head.lease
