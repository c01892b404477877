"""The head record: which layer is a disk's tip, who runs it, who may change it. Pure; `tasks.store.heads` writes it."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

HeadKind = Literal["disk", "snapshot"]
HeadState = Literal["idle", "running"]


@dataclass(frozen=True, slots=True)
class Lease:
    """The expiring right of one attempt of one action to change a head."""

    action_id: str
    attempt_id: str
    expires_at: str  # ISO 8601, UTC
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

    def next(self, attempt_id: str, updated_at: str, **changes: Any) -> "Head":
        """The record after one write: generation + 1, the writer's id, and the changes."""
        return replace(self, generation=self.generation + 1, attempt_id=attempt_id, updated_at=updated_at, **changes)


def head_to_json(head: Head) -> dict[str, Any]:
    """JSON form; the inverse of `head_from_json`."""
    return asdict(head)


def head_from_json(raw: dict[str, Any]) -> Head:
    """Raises KeyError or TypeError on fields that are missing or unknown."""
    lease = raw.get("lease")
    return Head(**{**raw, "lease": Lease(**lease) if lease else None})
