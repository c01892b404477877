"""Import: a chain of local files becomes layers in the store, and a head. (`tasks.stages.export` is the way back.)

Order: read and check every file, name every layer, look what is there, refuse what cannot be; then upload from the
base on, read back, and write the head last. A crash leaves layers that no head names: the next run
of the same import finds and keeps them, and retirement names them if there is none.
"""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tasks.chain.head import Head, HeadKind
from tasks.errors import ConfigError, NotFound, Permanent, PreconditionFailed, Refused, Transient
from tasks.retry import store_call
from tasks.settings import Fleet
from tasks.stages.layer_stream import checked_stream, digest_of, rewritten_start
from tasks.stages.local_chain import LocalLayer, walk
from tasks.stages.local_files import named_errors
from tasks.stages.meter import Meter, Progress, silent
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store, open_stores
from tasks.store.download import sha256_of
from tasks.store.heads import HeadStore, check_disk_id
from tasks.store.layers import StoredLayer, find_layers
from tasks.store.upload import part_bytes, upload_stream

LAYERS_AT_ONCE = 4  # small layers wait for answers, not for bandwidth


@dataclass(frozen=True, slots=True)
class ImportedLayer:
    """What became of one file."""

    layer_id: str
    file: str
    region: str
    size: int
    sha256: str
    reused: bool  # it was there already


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Layers base first; `created` is False when the very same disk was there already."""

    disk_id: str
    tip: str
    kind: HeadKind
    home_region: str
    virtual_size: int
    created: bool
    uploaded_bytes: int
    layers: tuple[ImportedLayer, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Planned:
    local: LocalLayer
    start: bytes  # the first cluster as stored
    sha256: str
    layer_id: str
    region: str


def import_disk(
    fleet: Fleet,
    folder: Path,
    disk_id: str,
    tip: str,
    region: str,
    *,
    layer_regions: Mapping[str, str] | None = None,
    kind: HeadKind = "disk",
    progress: Progress = silent,
) -> ImportResult:
    """Upload the chain of `folder/tip` and create the head. Doing it again is a no-op.

    `layer_regions`: file name -> region, for layers that do not live in `region`. Refused: the hazards of
    `local_chain.walk`, `disk_exists` (with another tip), `file_changed`. Nothing is written before all is checked.
    """
    check_disk_id(disk_id)
    fleet.region(region)
    with named_errors(folder):
        return _import(fleet, folder, Head(disk_id, "", kind, region), tip, layer_regions or {}, progress)


def _import(
    fleet: Fleet, folder: Path, wanted: Head, tip: str, layer_regions: Mapping[str, str], progress: Progress
) -> ImportResult:
    disk_id, kind, region = wanted.disk_id, wanted.kind, wanted.home_region
    chain = walk(folder, tip)
    regions = _regions(fleet, chain, region, layer_regions)
    stores, heads = open_stores(fleet), HeadStore(control_store(fleet))
    current = _existing(heads, disk_id)
    planned = _name_layers(chain, regions, heads.control, progress)
    if current is not None:
        _check_same(current, planned[-1].layer_id, kind)
    found = find_layers(stores, [(plan.layer_id, plan.region) for plan in planned])
    for plan, stored in zip(planned, found, strict=True):
        _check_stored(plan, stored)
    if current is not None and all(found):  # read back before the head was written
        layers, sent = [_kept(plan, stored) for plan, stored in zip(planned, found, strict=True) if stored], 0
    else:
        layers, sent = _send(planned, found, stores, progress)
    if current is None:
        check_kept(heads.control, stores, [(layer.layer_id, layer.region) for layer in layers])
        _create(heads, Head(disk_id, planned[-1].layer_id, kind, region, virtual_size=chain[-1].facts.virtual_size))
    size = chain[-1].facts.virtual_size
    return ImportResult(disk_id, planned[-1].layer_id, kind, region, size, current is None, sent, tuple(layers))


def store_layer(
    fleet: Fleet, layer: LocalLayer, parent_id: str, region: str, progress: Progress = silent
) -> ImportedLayer:
    """One file as a layer over `parent_id`, uploaded and read back. Doing it again is a no-op."""
    stores = open_stores(fleet)
    planned = _name(layer, parent_id, region, control_store(fleet), Meter("hash", layer.size, progress))
    found = find_layers(stores, [(planned.layer_id, region)])
    _check_stored(planned, found[0])
    return _send([planned], found, stores, progress)[0][0]


def _regions(fleet: Fleet, chain: list[LocalLayer], default: str, wanted: Mapping[str, str]) -> list[str]:
    """Region of each layer. ConfigError names an unknown region or a file that is not in the chain."""
    names = [layer.path.name for layer in chain]
    for name, region in wanted.items():
        fleet.region(region)
        if name not in names:
            raise ConfigError(f"--layer-region {name}={region}: {name} is not in the chain of {names[-1]}")
    return [wanted.get(name, default) for name in names]


def _existing(heads: HeadStore, disk_id: str) -> Head | None:
    try:
        return heads.read(disk_id).head
    except NotFound:
        return None


def _check_same(current: Head, tip: str, kind: HeadKind) -> None:
    if current.tip != tip or current.kind != kind:
        raise Refused(
            "disk_exists", f"disk {current.disk_id} is there already: a {current.kind} with tip {current.tip}"
        )


def _name_layers(
    chain: list[LocalLayer], regions: list[str], control: ObjectStore, progress: Progress
) -> list[_Planned]:
    """Base first, since a layer's bytes name its parent."""
    meter = Meter("hash", sum(layer.size for layer in chain), progress)
    planned: list[_Planned] = []
    for layer, region in zip(chain, regions, strict=True):
        planned.append(_name(layer, planned[-1].layer_id if planned else None, region, control, meter))
    return planned


def _name(layer: LocalLayer, parent_id: str | None, region: str, control: ObjectStore, meter: Meter) -> _Planned:
    start = rewritten_start(layer, parent_id)
    sha256 = digest_of(layer.path, start, meter.add)
    return _Planned(layer, start, sha256, _free_id(control, sha256), region)


def _free_id(control: ObjectStore, sha256: str) -> str:
    """The id for that content, derived anew while its layer is being retired.

    A layer under a tombstone may be deleted at any moment after the grace: a new head must not rest on it. The
    tombstone's ETag salts the id, so that doing the import again gives the same.
    """
    layer_id = sha256[:32]
    for _ in range(8):
        try:
            tombstone = control.info(keys.tombstone(layer_id))
        except NotFound:
            return layer_id
        layer_id = hashlib.sha256(f"{sha256} {tombstone.etag}".encode()).hexdigest()[:32]
    raise Refused("layer_retiring", f"layer {layer_id} and others of the same content are being retired")


def check_kept(control: ObjectStore, stores: Mapping[str, ObjectStore], layers: Sequence[tuple[str, str]]) -> None:
    """Before a head is written: are the uploaded layers (id, region) still there, and not on their way out?

    An upload may take longer than the grace, and until a head names its layers they look like leftovers. The next
    deletion is a grace away from a layer without a tombstone. Refused (`layer_retiring`): call again, under new ids.
    """
    for (layer_id, region), found in zip(layers, find_layers(stores, layers), strict=True):
        if found is None:
            raise Refused("layer_retiring", f"layer {layer_id} ({region}) was deleted while others were uploaded")
    for layer_id, region in layers:
        with suppress(NotFound):
            control.info(keys.tombstone(layer_id))
            raise Refused("layer_retiring", f"layer {layer_id} ({region}) was marked for deletion meanwhile")


def _check_stored(plan: _Planned, stored: StoredLayer | None) -> None:
    if stored is not None and stored.info.size != plan.local.size:
        raise Permanent(
            f"layer {plan.layer_id} in {stored.region} has {stored.info.size} bytes,"
            f" {plan.local.path} has {plan.local.size}"
        )


def _kept(plan: _Planned, stored: StoredLayer) -> ImportedLayer:
    return ImportedLayer(plan.layer_id, plan.local.path.name, stored.region, plan.local.size, plan.sha256, reused=True)


def _send(
    planned: list[_Planned], found: list[StoredLayer | None], stores: Mapping[str, ObjectStore], progress: Progress
) -> tuple[list[ImportedLayer], int]:
    """Upload what is missing and read everything back, from the base on; the layers and the bytes sent."""
    missing = sum(plan.local.size for plan, stored in zip(planned, found, strict=True) if stored is None)
    sending = Meter("upload", missing, progress)
    checking = Meter("verify", sum(plan.local.size for plan in planned), progress)

    def one(plan: _Planned, stored: StoredLayer | None) -> ImportedLayer:
        store = stores[stored.region if stored else plan.region]
        if stored is None:
            _upload(store, plan, sending)
        _verify(store, plan, checking)
        name, size = plan.local.path.name, plan.local.size
        return ImportedLayer(plan.layer_id, name, store.region, size, plan.sha256, stored is not None)

    with ThreadPoolExecutor(LAYERS_AT_ONCE) as pool:
        try:
            return list(pool.map(one, planned, found)), missing
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _upload(store: ObjectStore, plan: _Planned, meter: Meter) -> None:
    """As often as it takes: the id is derived from the content, so that an earlier try's object is the right one."""
    for attempt in store_call():
        with attempt:
            _upload_once(store, plan, meter)


def _upload_once(store: ObjectStore, plan: _Planned, meter: Meter) -> None:
    size, key, sent = plan.local.size, keys.layer(plan.layer_id), 0

    def add(count: int) -> None:
        nonlocal sent
        sent += count
        meter.add(count)

    parts = checked_stream(plan.local.path, plan.start, part_bytes(size), plan.sha256, add)
    try:
        upload_stream(store, key, parts, size)
    except PreconditionFailed as error:  # another import, or our own try; the read-back decides
        _check_there(store, key, size, error)
    except Transient:
        meter.add(-sent)
        raise


def _check_there(store: ObjectStore, key: str, size: int, error: PreconditionFailed) -> None:
    try:
        found = store.info(key)
    except NotFound:  # a conflict (409) with a write that did not come to be
        raise Transient(str(error)) from None
    if found.size != size:
        raise error


def _verify(store: ObjectStore, plan: _Planned, meter: Meter) -> None:
    """The stored bytes, read back, have the hash of what was meant."""
    info = store.info(keys.layer(plan.layer_id))
    if sha256_of(store, info.key, info.size, info.etag, meter.add) != plan.sha256:
        raise Permanent(f"{store.bucket}/{info.key} ({store.region}): not the bytes of {plan.local.path}")


def _create(heads: HeadStore, head: Head) -> None:
    try:
        heads.create(head)
    except PreconditionFailed:  # another import of this disk at the same time
        _check_same(heads.read(head.disk_id).head, head.tip, head.kind)
