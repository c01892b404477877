"""The live engine: block-stream in the running VM, so that its overlay rests on a deeper layer of the same chain.

Order, and what a crash leaves after each step:

1. look    the VM's jobs and block graph                           nothing
2. allow   the head's `stream_base` names the base                 an allowance: the overlay's header decides at stop
3. stream  `block-stream` copies into the overlay; QEMU writes     the job goes on without us; calling again joins it
           the base's name into its header when all is copied
4. check   the block graph shows the overlay on the base           calling again finds it done

The layers in between are not touched: they stay valid for every other disk, and retirement finds them once the
stopped disk's new tip rests on the base. A job that fails leaves the overlay on the old tip, which stays allowed.
"""

import functools
import hashlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.analytics.duck import open_manifest
from tasks.analytics.queries import run
from tasks.analytics.sqlfiles import find
from tasks.chain.head import Head, check_stoppable
from tasks.chain.layer import layer_file_name
from tasks.errors import ChainwrightError, ConfigError, Permanent, PreconditionFailed, Refused
from tasks.plan.inputs import LayerInput, Tools
from tasks.plan.live import live_base, live_refusal
from tasks.plan.steps import Skip
from tasks.qemu import img, live
from tasks.qemu.blockjob import JobProgress
from tasks.settings import Fleet
from tasks.stages.findings import staged
from tasks.stages.heads import head_store
from tasks.stages.lifecycle import address_of, stored_names, swing
from tasks.stages.remote_chain import as_input, walk
from tasks.store.connect import control_store, open_stores
from tasks.store.heads import HeadStore, HeadVersion, new_attempt_id

__all__ = ["choose_base", "control", "lengths", "stream"]


def lengths(fleet: Fleet) -> dict[str, int]:
    """Layers of each disk's chain, as the manifest knows them. NotFound before the first scan."""
    return {row["disk_id"]: row["layers"] or 0 for row in _chain_lengths(fleet)}


def choose_base(fleet: Fleet, disk_id: str) -> dict[str, Any]:
    """The base that the policy allows: {"disk_id", "base", "layers_before", "layers_after"}, without the overlay.

    Refused with the skip's code if there is none.
    """
    head = head_store(fleet).read(disk_id).head
    check_stoppable(head)
    layers = _layers(fleet, head)
    private = _private_layers(fleet, head, len(layers))
    found = live_base(disk_id, layers, private, head.virtual_size, fleet.policy, _tools())
    if isinstance(found, Skip):
        raise Refused(found.reason, f"disk {disk_id}: {found.detail}")
    depth = [layer.layer_id for layer in layers].index(found.layer_id)
    return {
        "disk_id": disk_id,
        "base": found.layer_id,
        "layers_before": len(layers),
        "layers_after": len(layers) - depth,
    }


def stream(
    fleet: Fleet,
    disk_id: str,
    base: str | None = None,
    *,
    speed_bytes: int = 0,
    on_progress: JobProgress | None = None,
) -> dict[str, Any]:
    """Stream the running disk onto `base` (default: what `choose_base` says). `speed_bytes` per second; 0 = no limit.

    Refused: `disk_idle`, `no_qmp`, `disk_not_in_vm`, `not_in_chain`, `stream_running`, `streamed_already`,
    `snapshot_running`, `vm_changed`, or a hazard's name. Permanent if QEMU's job failed or was cancelled: the disk is
    as it was. PreconditionFailed: the head changed meanwhile. Transient: the VM cannot be reached; call again.
    """
    heads = head_store(fleet)
    version = heads.read(disk_id)
    check_stoppable(version.head)
    address = address_of(version.head)
    chosen = base or choose_base(fleet, disk_id)["base"]
    vm = live.look(address, _wanted(version.head))
    target = next((name for name, layer_id in version.head.sealed if layer_id == chosen), layer_file_name(chosen))
    if target not in vm.chain[1:]:
        raise Refused("not_in_chain", f"disk {disk_id}: layer {chosen} is not below the VM's overlay")
    if vm.chain[1] != target:
        _check_free(version.head, chosen, vm)
        _check_safe(fleet, version.head, chosen, vm, vm.chain.index(target))
        version = heads.swap(version, new_attempt_id(), stream_base=chosen)
        _run_job(heads, version, vm, target, speed_bytes, on_progress)
    after = live.look(address, _wanted(version.head))
    if after.chain[1] != target:
        raise Permanent(f"disk {disk_id}: the job ended, but the overlay rests on {after.chain[1]}")
    if heads.read(disk_id).head.stream_base != chosen and chosen != version.head.tip:
        swing(heads, version, stream_base=chosen)  # the header names it: `stop` must believe it
    return {"disk_id": disk_id, "base": chosen, "layers_before": len(vm.chain), "layers_after": len(after.chain)}


def _run_job(
    heads: HeadStore,
    version: HeadVersion,
    vm: live.VmDisk,
    target: str,
    speed_bytes: int,
    on_progress: JobProgress | None,
) -> None:
    """The VM's job, from its start to its end; what the head allows is taken back if it fails."""
    head, base = version.head, str(version.head.stream_base)
    arguments = {"base-node": vm.nodes[target], "speed": speed_bytes}
    arguments["backing-file"] = layer_file_name(base)  # what the header says from then on
    try:
        live.stream(address_of(head), job_id(head.disk_id, base), vm, arguments, on_progress)
    except (Permanent, Refused):
        if live.look(address_of(head), _wanted(head)).chain[1] != target:
            with suppress(PreconditionFailed):  # the head went on, and says what holds now
                heads.swap(version, new_attempt_id(), stream_base=None)
        raise


def _check_free(head: Head, base: str, vm: live.VmDisk) -> None:
    """Refused unless the overlay rests on the head's tip and no other stream is under way: the head allows one base."""
    plain = stored_names(replace(head, stream_base=None))
    if vm.chain[1] not in plain:
        if vm.chain[1] in stored_names(head):
            text = f"the overlay rests on {head.stream_base} since an earlier stream: take a snapshot, or stop, first"
            raise Refused("streamed_already", f"disk {head.disk_id}: {text}")
        raise Refused("snapshot_running", f"disk {head.disk_id}: {vm.chain[1]} below its overlay is not uploaded yet")
    if head.stream_base not in {None, base} and live.has_job(address_of(head), job_id(head.disk_id, head.stream_base)):
        raise Refused("stream_running", f"disk {head.disk_id}: is being streamed onto {head.stream_base}")


def _check_safe(fleet: Fleet, head: Head, base: str, vm: live.VmDisk, depth: int) -> None:
    """Refused with the hazard's name: whoever chose the base, the chain and its sizes may be others by now.

    The VM's own sizes count too: its overlay may have been resized, and local files may lie above the head's tip.
    """
    layers = _layers(fleet, head)
    ids = [layer.layer_id for layer in layers]
    if base not in ids:
        raise Refused("not_in_chain", f"disk {head.disk_id}: layer {base} is not in its chain")
    size = max(head.virtual_size, vm.sizes[0])
    refusal = live_refusal(layers, ids.index(base), size, fleet.policy, _tools())
    if refusal is not None:
        raise Refused(refusal.code, f"disk {head.disk_id}: {refusal.text}")
    needed = min(vm.sizes[0], vm.sizes[depth])
    for name, found in zip(vm.chain[1:depth], vm.sizes[1:depth], strict=True):
        if found < needed:
            raise Refused("short_parent", f"disk {head.disk_id}: {name} ends at {found}, {needed} bytes are needed")


def _layers(fleet: Fleet, head: Head) -> list[LayerInput]:
    """The stored chain, tip first."""
    remote = walk(open_stores(fleet), head.tip, head.home_region, fleet.policy.raw_bases)
    return [as_input(layer) for layer in reversed(remote)]


def _tools() -> Tools:
    return Tools(tuple(int(part) for part in img.version().split(".")), frozenset({"stream"}))


def control(fleet: Fleet, disk_id: str, verb: str) -> None:
    """`pause`, `resume` or `cancel` the disk's stream. Permanent if there is none."""
    if verb not in {"pause", "resume", "cancel"}:
        raise ConfigError(f"{verb!r}: pause, resume or cancel")
    head = head_store(fleet).read(disk_id).head
    check_stoppable(head)
    if head.stream_base is None:
        raise Permanent(f"disk {disk_id}: no stream was started")
    live.control(address_of(head), job_id(disk_id, head.stream_base), f"job-{verb}")


def job_id(disk_id: str, base: str) -> str:
    """The same inputs give the same job: an id that QEMU accepts, whatever the disk is called."""
    return "cw-" + hashlib.sha256(f"{disk_id} {base}".encode()).hexdigest()[:24]


def _wanted(head: Head) -> frozenset[str]:
    overlay = {Path(head.overlay).name} if head.overlay else set()
    return frozenset(stored_names(head)) | overlay


def _private_layers(fleet: Fleet, head: Head, count: int) -> int:
    """Layers that only this disk uses, as the manifest knows; all but the base if it does not know the disk yet."""
    try:
        rows = _chain_lengths(fleet)
    except ChainwrightError:
        return count - 1
    known = next((row for row in rows if row["disk_id"] == head.disk_id and row["tip_layer_id"] == head.tip), None)
    return int(known["private_layers"]) if known else count - 1


def _chain_lengths(fleet: Fleet) -> list[dict[str, Any]]:
    return _rows_of(staged(fleet, control_store(fleet))[0])


@functools.lru_cache(maxsize=1)
def _rows_of(folder: Path) -> list[dict[str, Any]]:
    """Kept, because a plan asks once for each long disk, and a staged snapshot never changes."""
    with open_manifest(folder) as connection:
        return run(connection, find("chain_length")).dicts()
