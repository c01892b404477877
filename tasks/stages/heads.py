"""The life cycle of a disk's head, for the command line, the DAGs and a control plane."""

from tasks.chain.head import HeadKind
from tasks.errors import ConfigError
from tasks.settings import Fleet
from tasks.store.connect import control_store
from tasks.store.heads import HeadStore, HeadVersion


def head_store(fleet: Fleet) -> HeadStore:
    """The fleet's heads."""
    return HeadStore(control_store(fleet))


def show(fleet: Fleet, disk_id: str) -> HeadVersion:
    """The record now. NotFound for an unknown disk."""
    return head_store(fleet).read(disk_id)


def start(fleet: Fleet, disk_id: str, host: str, qmp: str | None = None, attempt_id: str | None = None) -> HeadVersion:
    """Mark the disk as running; wins over any lease at once. Refused if it runs already."""
    if qmp is not None and not qmp.startswith(("unix:/", "tcp:")):
        raise ConfigError(f"QMP address {qmp!r}: unix:/path or tcp:host:port")
    return head_store(fleet).start(disk_id, host, qmp, attempt_id)


def stop(fleet: Fleet, disk_id: str, attempt_id: str | None = None) -> HeadVersion:
    """Mark the disk as idle on the tip that the head has. Refused if it does not run."""
    return head_store(fleet).stop(disk_id, attempt_id=attempt_id)


def clone(fleet: Fleet, disk_id: str, new_disk_id: str, *, kind: HeadKind, region: str | None) -> HeadVersion:
    """A second head on the same tip layer, living in `region` (default: the source's)."""
    home = fleet.region(region).name if region else None
    return head_store(fleet).clone(disk_id, new_disk_id, kind, home)
