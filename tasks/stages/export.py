"""Export: a disk's chain is fetched, checked and assembled into one local file.

Order: read the head, walk the headers, refuse what is unsound, check the space; then fetch whole layers (kept over a
crash), let `qemu-img convert` assemble them beside the target, compare its result with what our own reader sees in the
chain, and move it into place in one step.
"""

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.errors import NotFound, Permanent, Refused
from tasks.inventory.local import LayerMap, inspect_file
from tasks.qemu import img
from tasks.qemu.accepted import AcceptedImage, accept, accept_raw
from tasks.qemu.process import Limits
from tasks.settings import Fleet
from tasks.stages.guest_hash import chain_blocks, equal_sha256, raw_blocks, raw_map
from tasks.stages.layer_fetch import bytes_here, drop_others, fetch_all, work_folder
from tasks.stages.local_files import named_errors
from tasks.stages.meter import Meter, Progress, silent
from tasks.stages.remote_chain import RemoteLayer, walk
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store, open_stores
from tasks.store.heads import HeadStore
from tasks.units import GIB, MIB, human_bytes

ExportFormat = Literal["raw", "qcow2"]
_SLOWEST_BYTES_PER_SECOND = 5 * MIB  # a conversion slower than this is stuck


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written. `guest_sha256` is of the guest-visible content (for raw: of the file)."""

    disk_id: str
    tip: str
    generation: int
    state: str  # of the head: what a running VM wrote since its start is not in the store
    out: str
    format: ExportFormat
    virtual_size: int
    layers: int
    fetched_bytes: int
    resumed_bytes: int  # were here from a run before
    guest_sha256: str


@dataclass(frozen=True, slots=True)
class _Accepted:
    image: AcceptedImage
    map: LayerMap


@dataclass(frozen=True, slots=True)
class _Target:
    out: Path
    format: ExportFormat
    force: bool

    @property
    def partial(self) -> Path:
        return self.out.with_name(f".{self.out.name}.chainwright-part")


def export_disk(
    fleet: Fleet,
    disk_id: str,
    out: Path,
    image_format: ExportFormat = "raw",
    *,
    force: bool = False,
    progress: Progress = silent,
) -> ExportResult:
    """Write the disk as the head has it now. An earlier run that was cut short is continued.

    Refused: `output_exists` without `force`, `no_space`, `busy`, and what `remote_chain.walk` refuses. NotFound: the
    disk, or the folder of `out`.
    """
    with named_errors(out):
        return _export(fleet, disk_id, _Target(out.absolute(), image_format, force), progress)


def _export(fleet: Fleet, disk_id: str, target: _Target, progress: Progress) -> ExportResult:
    head = HeadStore(control_store(fleet)).read(disk_id).head
    _check_target(target)
    stores = open_stores(fleet)
    layers = walk(stores, head.tip, head.home_region, fleet.policy.raw_bases)
    size = _virtual_size(layers)
    with work_folder(Path(fleet.work_dir), disk_id) as folder:
        drop_others(folder, layers)
        here = sum(bytes_here(folder, layer) for layer in layers)
        missing = sum(layer.info.size for layer in layers) - here
        _check_space(folder, missing, target, _result_bytes(layers, size))
        sha256 = _assemble(folder, layers, stores, target, size, progress)
        _move_into_place(target)
    return ExportResult(
        disk_id=disk_id,
        tip=head.tip,
        generation=head.generation,
        state=head.state,
        out=str(target.out),
        format=target.format,
        virtual_size=size,
        layers=len(layers),
        fetched_bytes=missing,
        resumed_bytes=here,
        guest_sha256=sha256,
    )


def _check_target(target: _Target) -> None:
    if not target.out.parent.is_dir():
        raise NotFound(f"{target.out.parent}: no such folder")
    if target.out.is_dir():
        raise Refused("output_exists", f"{target.out} is a folder")
    if target.out.exists() and not target.force:
        raise Refused("output_exists", f"{target.out} is there already (--force replaces it)")


def _virtual_size(layers: list[RemoteLayer]) -> int:
    tip = layers[-1]
    return tip.facts.virtual_size if tip.facts else tip.info.size


def _result_bytes(layers: list[RemoteLayer], size: int) -> int:
    """At most this much will the assembled file take on disk: nothing is counted as hidden, zeros take no space."""
    return min(size, sum(layer.data_bytes for layer in layers)) * 1001 // 1000 + 2 * MIB


def _check_space(folder: Path, missing: int, target: _Target, result: int) -> None:
    same = folder.stat().st_dev == target.out.parent.stat().st_dev
    for path, name, need in (
        (folder, "work directory", missing + (result if same else 0)),
        (target.out.parent, "folder", 0 if same else result),
    ):
        free = shutil.disk_usage(path).free
        if need > free:
            raise Refused("no_space", f"{name} {path}: needs {human_bytes(need)}, has {human_bytes(free)} free")


def _assemble(
    folder: Path,
    layers: list[RemoteLayer],
    stores: Mapping[str, ObjectStore],
    target: _Target,
    size: int,
    progress: Progress,
) -> str:
    """Fetch, convert, compare; the hash of the guest content."""
    total = sum(layer.info.size for layer in layers)
    paths = fetch_all(folder, layers, stores, Meter("fetch", total, progress).add)
    chain = [_accepted(path, layer) for path, layer in zip(paths, layers, strict=True)]
    target.partial.unlink(missing_ok=True)
    try:
        progress("assemble", 0, size)
        img.convert(chain[-1].image, target.partial, target.format, limits=_limits(len(layers), size))
        progress("assemble", size, size)
        return _compare(chain, target, size, Meter("verify", size, progress))
    except BaseException:
        with contextlib.suppress(OSError):
            target.partial.unlink(missing_ok=True)
        raise


def _accepted(path: Path, layer: RemoteLayer) -> _Accepted:
    """The fetched file, read again by our own reader: what qemu opens is what was accepted."""
    if layer.facts is None:
        return _Accepted(accept_raw(path), raw_map(layer.info.size))
    found = inspect_file(path, layer.rules)
    if found.facts != layer.facts:
        raise Permanent(f"layer {layer.name}: the fetched file's metadata is not what the store showed")
    return _Accepted(accept(path, found.facts), found)


def _compare(chain: list[_Accepted], target: _Target, size: int, meter: Meter) -> str:
    """Our own reader's view of the chain against what qemu-img wrote; the hash. Permanent if they differ."""
    layers = [(layer.image.path, layer.map) for layer in reversed(chain)]
    result = target.partial
    found = raw_blocks(result) if target.format == "raw" else chain_blocks([(result, inspect_file(result))], size)
    try:
        with chain_blocks(layers, size) as ours, found as theirs:
            sha256 = equal_sha256(ours, theirs, size, meter.add)
    except Permanent as error:
        raise Permanent(f"{target.out}: the assembled image is not the chain: {error}") from None
    if _size_of(target) != size:
        raise Permanent(f"{target.out}: the assembled image has {_size_of(target)} bytes, the disk has {size}")
    return sha256


def _size_of(target: _Target) -> int:
    """Virtual size of the result."""
    if target.format == "raw":
        return target.partial.stat().st_size
    return inspect_file(target.partial).facts.virtual_size


def _limits(layers: int, size: int) -> Limits:
    """Memory and descriptors grow with the chain, time with the disk."""
    seconds = 3600 + size // _SLOWEST_BYTES_PER_SECOND
    return Limits(
        timeout_seconds=float(seconds),
        cpu_seconds=seconds,
        memory_bytes=max(Limits().memory_bytes, GIB + layers * 48 * MIB),
        nofile=max(Limits().nofile, layers + 256),
    )


def _move_into_place(target: _Target) -> None:
    """Synced, then renamed: the target is whole or not there. Without `force` nothing is ever replaced."""
    try:
        _sync(target.partial)
        if target.force:
            target.partial.replace(target.out)
        else:
            _rename_to_free_name(target)
        _sync(target.out.parent)
    except FileExistsError:
        target.partial.unlink()
        raise Refused("output_exists", f"{target.out} appeared meanwhile (--force replaces it)") from None
    except OSError as error:
        raise Permanent(f"{target.out}: {error.strerror or error}") from None


def _rename_to_free_name(target: _Target) -> None:
    try:
        target.out.hardlink_to(target.partial)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if target.out.exists():
            raise FileExistsError(str(target.out)) from None
        target.partial.replace(target.out)
    else:
        target.partial.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
