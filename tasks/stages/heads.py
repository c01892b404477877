"""The life cycle of a disk's head, for the command line, the DAGs and a control plane."""

from pathlib import Path

from tasks.chain.head import HeadKind
from tasks.chain.layer import layer_file_name
from tasks.errors import ConfigError, NotFound
from tasks.settings import Fleet
from tasks.stages.overlay import find_overlays
from tasks.store.connect import control_store
from tasks.store.heads import HeadStore, HeadVersion


def head_store(fleet: Fleet) -> HeadStore:
    """The fleet's heads."""
    return HeadStore(control_store(fleet))


def show(fleet: Fleet, disk_id: str) -> HeadVersion:
    """The record now. NotFound for an unknown disk."""
    return head_store(fleet).read(disk_id)


def start(
    fleet: Fleet,
    disk_id: str,
    host: str,
    qmp: str | None = None,
    attempt_id: str | None = None,
    overlay: Path | None = None,
) -> HeadVersion:
    """Mark the disk as running; wins over any lease at once. Refused if it runs already.

    `overlay`: the local file that the VM will write, so that `tasks.stages.lifecycle.stop` knows it. Refused
    (`lineage_mismatch`, `head_moved`) if it does not rest on the tip: maintenance was between its creation and the
    start. Make a new one.
    """
    if qmp is not None and not qmp.startswith(("unix:/", "tcp:")):
        raise ConfigError(f"QMP address {qmp!r}: unix:/path or tcp:host:port")
    if overlay is not None and not overlay.is_file():
        raise NotFound(f"{overlay}: no such file; `chainwright head tip` makes it")
    heads = head_store(fleet)
    if overlay is None:
        return heads.start(disk_id, host, qmp, attempt_id)
    head = heads.read(disk_id).head
    if head.state == "idle":
        find_overlays(overlay.resolve(), {layer_file_name(head.tip): head.tip})
    return heads.start(disk_id, host, qmp, attempt_id, str(overlay.resolve()), tip=head.tip)


def clone(fleet: Fleet, disk_id: str, new_disk_id: str, *, kind: HeadKind, region: str | None) -> HeadVersion:
    """A second head on the same tip layer, living in `region` (default: the source's)."""
    home = fleet.region(region).name if region else None
    return head_store(fleet).clone(disk_id, new_disk_id, kind, home)
