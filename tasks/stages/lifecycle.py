"""A disk's life: tip creation, snapshot of a running VM, stop (the talk's write flow), as a control plane calls them.

    create_tip  idle disk     an empty local overlay over the head's tip; start the VM with `chainwright blockdev`
    start       idle→running  `tasks.stages.heads.start`, with the overlay's path
    snapshot    running       QMP: a new overlay; what became read-only is uploaded while the VM runs; a snapshot head
    stop        running→idle  upload what the VM wrote, swing the head

They run on the VM's host. A crash at any point loses nothing: what a VM wrote stays in its local files until the head
names layers that hold it, and the files' own headers say which of them were not uploaded yet. Calling again goes on.
"""

import secrets
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.chain.head import Head, check_startable, check_stoppable
from tasks.chain.layer import layer_file_name
from tasks.chain.qcow2_names import NameRules
from tasks.errors import NotFound, PreconditionFailed, Refused
from tasks.qemu import img, live
from tasks.qemu.accepted import accept
from tasks.retry import until_won
from tasks.settings import Fleet
from tasks.stages.heads import head_store
from tasks.stages.local_chain import LocalLayer
from tasks.stages.meter import Progress, silent
from tasks.stages.overlay import Overlay, find_overlays, read_overlay, shape_of, target_of
from tasks.stages.remote_chain import read_metadata
from tasks.stages.small_backing import merged_tip
from tasks.stages.transfer import check_kept, store_layer
from tasks.store.connect import control_store, open_stores
from tasks.store.heads import HeadStore, HeadVersion, new_attempt_id
from tasks.store.layers import find_layer

_STOPPED: dict[str, Any] = {
    "state": "idle",
    "host": None,
    "qmp": None,
    "overlay": None,
    "sealed": (),
    "stream_base": None,
}


@dataclass(frozen=True, slots=True)
class UploadedOverlay:
    """One local file that is a layer now. Sizes in bytes."""

    layer_id: str
    backing: str
    file: str
    size: int
    virtual_size: int


def create_tip(fleet: Fleet, disk_id: str, path: Path) -> dict[str, Any]:
    """An empty qcow2 over the head's tip, with the tip's cluster size (mixes are hazards). Opens no image.

    Refused: `file_exists`, `disk_running`, `snapshot_head`, `layer_missing`.
    """
    head = head_store(fleet).read(disk_id).head
    check_startable(head)
    if path.exists():
        raise Refused("file_exists", f"{path}: is there already")
    stores = open_stores(fleet)
    stored = find_layer(stores, head.tip, head.home_region)
    if stored is None:
        raise Refused("layer_missing", f"disk {disk_id}: its tip {head.tip} is in no region")
    facts, _ = read_metadata(stores[stored.region], stored.info, NameRules())
    if facts.status != "ok":
        raise Refused(facts.reason or "unreadable", f"layer {head.tip}: {facts.detail}")
    size = max(head.virtual_size, facts.virtual_size)
    img.create_overlay(path, size, layer_file_name(head.tip), facts.cluster_size)
    return {"disk_id": disk_id, "path": str(path), "backing": head.tip, "virtual_size": size}


def snapshot(
    fleet: Fleet, disk_id: str, snapshot_id: str, *, region: str | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """A snapshot head of the running disk; afterwards the VM writes a new overlay beside the old one.

    Refused: `disk_idle`, `no_qmp`, `disk_not_in_vm`, `not_sealed`, `disk_exists` (the snapshot's name is taken),
    `lineage_mismatch`.
    """
    heads = head_store(fleet)
    version = heads.read(disk_id)
    check_stoppable(version.head)
    address = address_of(version.head)
    _check_name_free(heads, snapshot_id)
    version, sealed = _seal(heads, version, address)
    layers = _upload(fleet, version.head, sealed, region, progress)
    tip = layers[-1].layer_id
    size = max(version.head.virtual_size, layers[-1].virtual_size)
    sealed_now = (*version.head.sealed, *((Path(layer.file).name, layer.layer_id) for layer in layers))
    done = swing(heads, version, tip=tip, sealed=sealed_now, stream_base=None, virtual_size=size)
    _create_snapshot(heads, done.head, snapshot_id, tip)
    return {
        "disk_id": disk_id,
        "snapshot_id": snapshot_id,
        "tip": tip,
        "overlay": done.head.overlay,
        "layers": [asdict(layer) for layer in layers],
    }


def stop(
    fleet: Fleet, disk_id: str, overlay: Path | None = None, *, region: str | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """The VM has ended: upload what it wrote and swing the head. `overlay`: its last file, default the head's record.

    Refused: `disk_idle`, `lineage_mismatch`, `overlay_damaged`, or the reader's reasons. Permanent if the
    file is still open in a VM on this host.
    """
    heads = head_store(fleet)
    version = heads.read(disk_id)
    check_stoppable(version.head)
    newest = overlay or (Path(version.head.overlay) if version.head.overlay else None)
    if newest is None:  # started by a control plane that uploads by itself, or not at all
        done = swing(heads, version, **_STOPPED)
        return {"disk_id": disk_id, "tip": done.head.tip, "generation": done.head.generation, "layers": []}
    layers = _upload(fleet, version.head, newest, region, progress, check=True)
    size = max(version.head.virtual_size, layers[-1].virtual_size)
    tip = layers[-1].layer_id
    done = swing(heads, version, tip=tip, virtual_size=size, **_STOPPED)
    return {
        "disk_id": disk_id,
        "tip": tip,
        "generation": done.head.generation,
        "layers": [asdict(layer) for layer in layers],
    }


def discard(fleet: Fleet, disk_id: str) -> HeadVersion:
    """The VM has ended and what it wrote is not wanted: idle on the tip that the head has."""
    heads = head_store(fleet)
    version = heads.read(disk_id)
    check_stoppable(version.head)
    return swing(heads, version, **_STOPPED)


def stored_names(head: Head) -> dict[str, str]:
    """What the lowest local file may rest on: the tip, or the layer that a live stream put it on."""
    known = {layer_file_name(head.tip): head.tip}
    known |= {name: layer_id for name, layer_id in head.sealed if layer_id == head.tip}
    if head.stream_base is not None:
        known[layer_file_name(head.stream_base)] = head.stream_base
    return known


def _seal(heads: HeadStore, version: HeadVersion, address: str) -> tuple[HeadVersion, Path]:
    """Let the guest write to a fresh overlay; the head as it names that one, and the file that became read-only.

    The head names the fresh overlay before the VM switches to it. Should nobody ever switch, it is an empty file over
    the one that is written, and `stop` uploads both: right, if one layer too many.
    """
    wanted = frozenset(stored_names(version.head)) | _names(version.head.overlay)
    vm = live.look(address, wanted)
    active = Path(vm.path)
    fresh = _prepared(version.head, active)
    if fresh is None:
        fresh = active.with_name(f"{version.head.disk_id}-{secrets.token_hex(6)}.qcow2")
        size, cluster_size = shape_of(active)
        img.create_overlay(fresh, size, active.name, cluster_size)
        version = swing(heads, version, overlay=str(fresh))
    live.snapshot(address, vm.node, str(fresh), f"cw-{fresh.stem[-12:]}")
    after = live.look(address, frozenset({active.name}))
    if active.name not in after.read_only or Path(after.path).name != fresh.name:
        raise Refused("not_sealed", f"disk {version.head.disk_id}: the VM still writes to {active}")
    return version, active


def _prepared(head: Head, active: Path) -> Path | None:
    """The overlay of an attempt that died before the VM switched to it."""
    if head.overlay is None or Path(head.overlay).name == active.name or not Path(head.overlay).is_file():
        return None
    path = Path(head.overlay)
    return path if target_of(path) == active.name else None


def _upload(
    fleet: Fleet, head: Head, newest: Path, region: str | None, progress: Progress, *, check: bool = False
) -> list[UploadedOverlay]:
    """Every local file from the lowest on, each as a layer over the one before; newest last.

    `check`: the VM has ended. Then the file is checked, and a small parent merged into it first (the talk's rule).
    """
    overlays, parent = find_overlays(newest, stored_names(head))
    if check and head.overlay is not None and Path(head.overlay).name not in {o.path.name for o in overlays}:
        raise Refused("lineage_mismatch", f"{newest}: the disk's head names {head.overlay}, which is not below it")
    done: list[UploadedOverlay] = []
    for overlay in reversed(overlays):
        layer = read_overlay(overlay.path, parent)
        if check:
            _check_sound(overlay, layer)
        small = merged_tip(fleet, layer, parent, head.home_region) if check and len(overlays) == 1 else nullcontext()
        with small as merged:
            layer, parent = (merged.layer, merged.parent_id) if merged else (layer, parent)
            stored = store_layer(fleet, layer, parent, region or head.home_region, progress)
        done.append(UploadedOverlay(stored.layer_id, parent, str(overlay.path), stored.size, layer.facts.virtual_size))
        parent = stored.layer_id
    where = region or head.home_region
    check_kept(control_store(fleet), open_stores(fleet), [(layer.layer_id, where) for layer in done])
    return done


def _check_sound(overlay: Overlay, layer: LocalLayer) -> None:
    """Leaks are what a killed VM leaves; anything worse is not uploaded. Fails too while a VM has the file open."""
    result = img.check(accept(overlay.path, layer.facts))
    if result.corruptions or result.check_errors:
        raise Refused("overlay_damaged", f"{overlay.path}: qemu-img check finds {result.corruptions} corruptions")


def swing(heads: HeadStore, version: HeadVersion, **changes: Any) -> HeadVersion:
    """Write the head of a running disk that rests on the same tip as in `version`, whoever wrote it meanwhile.

    Refused (`head_moved`) if it was stopped, or swung by another snapshot: then our files rest on something else.
    """
    attempt, disk_id = new_attempt_id(), version.head.disk_id

    def write() -> HeadVersion:
        now = heads.read(disk_id)
        if (now.head.state, now.head.tip) != ("running", version.head.tip):
            raise Refused("head_moved", f"disk {disk_id}: {now.head.state} on {now.head.tip} meanwhile")
        return heads.swap(now, attempt, **changes)

    return until_won()(write)


def _create_snapshot(heads: HeadStore, head: Head, snapshot_id: str, tip: str) -> None:
    try:
        heads.create(Head(snapshot_id, tip, "snapshot", head.home_region, virtual_size=head.virtual_size))
    except PreconditionFailed:
        if heads.read(snapshot_id).head.tip != tip:
            raise Refused("disk_exists", f"{snapshot_id} is there already, on another layer") from None


def _check_name_free(heads: HeadStore, snapshot_id: str) -> None:
    try:
        found = heads.read(snapshot_id).head
    except NotFound:
        return
    raise Refused("disk_exists", f"{snapshot_id} is there already: a {found.kind}")


def address_of(head: Head) -> str:
    """Where the VM's monitor listens. Refused (`no_qmp`)."""
    if head.qmp is None:
        raise Refused("no_qmp", f"disk {head.disk_id}: the head names no QMP address of its VM")
    return head.qmp


def _names(overlay: str | None) -> frozenset[str]:
    return frozenset({Path(overlay).name}) if overlay else frozenset()
