"""Chains in the stores of a test fleet, and merge actions on them, without a planner."""

import hashlib
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from tasks.chain import run_maps
from tasks.chain.extent import Extents
from tasks.chain.head import Head
from tasks.plan.steps import Benefit, Cost, Engine, LayerRef, MergeAction
from tasks.settings import Fleet
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.heads import HeadStore
from tests.support.chains import Chain, guest_sha256

Stores = dict[str, ObjectStore]


def publish_chain(
    fleet: Fleet, stores: Stores, chain: Chain, disk_id: str, regions: Sequence[str] = (), home: str | None = None
) -> list[LayerRef]:
    """Upload the layers (`regions[i]` for layer i, cyclic) and create the head; the layers, tip first."""
    home = home or fleet.control_region
    refs = []
    for number, layer in enumerate(chain.layers):
        region = regions[number % len(regions)] if regions else home
        refs.append(upload_layer(stores, chain, layer, region))
    size = _virtual_size(chain)
    heads = HeadStore(stores[fleet.control_region])
    heads.create(Head(disk_id, chain.tip, "disk", home, virtual_size=size))
    return refs[::-1]


def upload_layer(stores: Stores, chain: Chain, layer: str, region: str) -> LayerRef:
    """One layer's file as an object (as it is, if it is there already)."""
    key = keys.layer(layer)
    path = chain.path(layer)
    if not any(info.key == key for info in stores[region].list(key)):
        stores[region].upload_file(key, path)
    return LayerRef(layer, region, stores[region].info(key).etag, path.stat().st_size)


def merge_action(
    refs: Sequence[LayerRef],
    disk_id: str,
    engine: Engine,
    top: int,
    bottom: int,
    home: str = "us-east",
    temp_bytes: int = 64 << 20,
) -> MergeAction:
    """Merge layers `top..bottom` (indexes from the tip, inclusive) of the chain."""
    run = tuple(refs[top : bottom + 1])
    base = refs[bottom + 1] if bottom + 1 < len(refs) else None
    text = "/".join([disk_id, engine, *(ref.layer_id + ref.etag for ref in run)])
    return MergeAction(
        action_id=hashlib.sha256(text.encode()).hexdigest()[:32],
        disk_id=disk_id,
        home_region=home,
        engine=engine,
        engine_reason="test",
        engines_refused={},
        tip=refs[0].layer_id,
        above=tuple(refs[:top]),
        run=run,
        base=base,
        below=tuple(refs[bottom + 2 :]),
        reason="requested",
        cost=Cost(temp_bytes=temp_bytes),
        benefit=Benefit(),
    )


def with_maps(fleet: Fleet, stores: Stores, action: MergeAction, extents: Sequence[Extents]) -> MergeAction:
    """The action with the extents of its run beside it, as a stored plan has them."""
    body = run_maps.encode([run_maps.Name(ref.layer_id, ref.etag) for ref in action.run], extents)
    name = keys.run_maps("snapshot", hashlib.sha256(body).hexdigest())
    stores[fleet.control_region].put_new(name, body)
    return replace(action, maps=name)


def run_extents(chain: Chain, action: MergeAction) -> list[Extents]:
    """What the inventory would say of the run."""
    from tasks.inventory.local import inspect_file

    return [inspect_file(chain.path(ref.layer_id)).extents for ref in action.run]


def download_chain(fleet: Fleet, stores: Stores, disk_id: str, folder: Path) -> Chain:
    """The disk's chain as it is in the stores now, found by the headers alone."""
    from tasks.chain.layer import layer_id_of
    from tasks.inventory.local import inspect_file

    folder.mkdir(parents=True)
    layer: str | None = HeadStore(stores[fleet.control_region]).read(disk_id).head.tip
    chain = Chain(folder)
    while layer is not None:
        fetch_object(stores, layer, chain.path(layer))
        chain.layers.insert(0, layer)
        facts = inspect_file(chain.path(layer)).facts
        assert facts.status == "ok", facts
        layer = layer_id_of(facts.backing_file) if facts.backing_file else None
    return chain


def fetch_object(stores: Stores, layer: str, path: Path) -> None:
    """A layer's bytes from whatever region has it."""
    for store in stores.values():
        for info in store.list(keys.layer(layer)):
            starts = range(0, info.size, 8 << 20)
            read = partial(store.get_range, info.key, length=8 << 20, if_match=info.etag)
            with path.open("wb") as file, ThreadPoolExecutor(4) as pool:
                file.writelines(pool.map(read, starts))
            return
    raise AssertionError(f"layer {layer} is in no region")


def disk_sha256(fleet: Fleet, stores: Stores, disk_id: str, folder: Path) -> str:
    """Hash of what the disk's guest would read now, by qemu-img over the downloaded chain."""
    chain = download_chain(fleet, stores, disk_id, folder)
    digest = guest_sha256(chain.path(chain.tip))
    shutil.rmtree(folder)
    return digest


def layer_keys(stores: Stores) -> set[str]:
    """Every layer id in any region."""
    return {
        info.key.removeprefix("layers/").removesuffix(".qcow2") for s in stores.values() for info in s.list("layers/")
    }


def _virtual_size(chain: Chain) -> int:
    from tasks.inventory.local import inspect_file

    return inspect_file(chain.path(chain.tip)).facts.virtual_size
