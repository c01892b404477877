"""The talk's rule, before an upload: a small backing file is merged into the tip, so that the chain does not grow.

On private copies only: `block-stream` in a storage daemon, the parent opened without its backing file, so that nothing
below is fetched or read. The result must cover exactly the clusters of both and show the guest the same bytes; then it
is uploaded over the grandparent instead of the tip over the parent. The parent stays as it is for all others.
"""

import contextlib
import logging
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.chain.extent import allocated, clip, union
from tasks.chain.header_rewrite import rewrite_backing
from tasks.chain.layer import layer_id_of
from tasks.chain.qcow2_layout import parse_header
from tasks.errors import Permanent
from tasks.execute.workspace import reserve
from tasks.inventory.local import LayerMap, inspect_file
from tasks.plan.hazards import Run, refusals
from tasks.plan.inputs import Tools
from tasks.plan.policy import Policy
from tasks.qemu import img
from tasks.qemu.accepted import accept
from tasks.qemu.storage_daemon import Node, run_block_job
from tasks.settings import Fleet
from tasks.stages.local_chain import LocalLayer
from tasks.stages.remote_chain import RemoteLayer, as_input, walk
from tasks.store.base import ObjectStore
from tasks.store.connect import open_stores
from tasks.store.download import pieces
from tasks.units import MIB

log = logging.getLogger(__name__)
LARGEST_CLUSTER = 2 * MIB


@dataclass(frozen=True, slots=True)
class Merged:
    """The tip with its parent in it: a file, and the layer id that it rests on."""

    layer: LocalLayer
    parent_id: str


@contextlib.contextmanager
def merged_tip(fleet: Fleet, overlay: LocalLayer, parent_id: str, home: str) -> Iterator[Merged | None]:
    """The merged tip while the context lasts; None where the rule does not apply (the log says why).

    Permanent if the result is not what it must be: nothing was uploaded, the overlay is as it was.
    """
    stores = open_stores(fleet)
    chain = walk(stores, parent_id, home, fleet.policy.raw_bases)
    why_not = _why_not(overlay, chain, fleet.policy)
    if why_not:
        log.info("%s: not merged with its parent: %s", overlay.path, why_not)
        yield None
        return
    parent, below = chain[-1], chain[-2]
    room = 2 * (overlay.size + max(parent.info.size, parent.data_bytes))
    with reserve(Path(fleet.work_dir), f"tip-{secrets.token_hex(6)}", room, fleet.work_bytes) as workspace:
        yield Merged(_merge(workspace.path, overlay, parent, stores), layer_id_of(below.name) or below.name)


def _why_not(overlay: LocalLayer, chain: Sequence[RemoteLayer], policy: Policy) -> str:
    parent = chain[-1]
    if not policy.rebase_small_parents:
        return "policy.rebase_small_parents is off"
    size = max(parent.info.size, parent.data_bytes)  # compressed clusters are written out in full (hazard 6)
    if size > policy.small_backing_bytes:
        return f"the parent has {size} bytes, small is up to {policy.small_backing_bytes}"
    if len(chain) < 2 or chain[-2].facts is None:
        return "the parent is the chain's base"
    inputs = [as_input(layer) for layer in reversed(chain)]
    facts = overlay.facts
    top = replace(
        inputs[0],
        layer_id="overlay",
        virtual_size=facts.virtual_size,
        cluster_bits=facts.cluster_bits,
        version=facts.version,
        extended_l2=facts.extended_l2,
        incompatible_features=facts.incompatible_features,
        bitmaps=facts.bitmaps,
        snapshots=facts.snapshots,
    )
    version = tuple(int(part) for part in img.version().split("."))
    run = Run((top, inputs[0]), tuple(inputs[1:]), policy, Tools(version, frozenset({"stream"})))
    refusal = refusals(run).get("stream")
    return f"{refusal.code}: {refusal.text}" if refusal else ""


def _merge(folder: Path, overlay: LocalLayer, parent: RemoteLayer, stores: dict[str, ObjectStore]) -> LocalLayer:
    low, old, new = folder / "parent.qcow2", folder / "old.qcow2", folder / "new.qcow2"
    store = stores[parent.stored.region]
    with low.open("wb") as file:
        file.writelines(pieces(store, parent.info.key, parent.info.size, parent.info.etag))
    _point(low, None)
    for copy, name in ((old, low.name), (new, None)):
        shutil.copyfile(overlay.path, copy)
        _point(copy, name)
    before = {path: inspect_file(path) for path in (low, old, new)}
    for path, found in before.items():
        accept(path, found.facts)
    run_block_job(folder, _nodes(low, new), "block-stream", device="tip")
    after = inspect_file(new)
    _prove(before[low], before[old], after, old, new)
    return LocalLayer(new, new.stat().st_size, after.facts)


def _point(path: Path, backing: str | None) -> None:
    """Give a private copy another backing name."""
    with path.open("r+b") as file:
        start = file.read(LARGEST_CLUSTER)
        cluster_size = parse_header(start).cluster_size
        file.seek(0)
        file.write(rewrite_backing(start[:cluster_size], backing, "qcow2" if backing else None))


def _nodes(low: Path, new: Path) -> list[Node]:
    return [
        {"driver": "file", "node-name": "low-file", "filename": low.name, "read-only": True},
        {"driver": "qcow2", "node-name": "low", "file": "low-file", "backing": None, "read-only": True},
        {"driver": "file", "node-name": "tip-file", "filename": new.name},
        {"driver": "qcow2", "node-name": "tip", "file": "tip-file", "backing": "low"},
    ]


def _prove(low: LayerMap, top: LayerMap, result: LayerMap, old: Path, new: Path) -> None:
    """The result covers the clusters of both, is sound, and reads as they did."""
    image = accept(new, result.facts)
    size = top.facts.virtual_size
    expected = union(allocated(top.extents), allocated(clip(low.extents, 0, size)))
    if result.facts.virtual_size != size or allocated(result.extents).pairs() != expected.pairs():
        raise Permanent(f"{new.name}: the merged tip does not cover what tip and parent cover")
    if not img.check(image).clean:
        raise Permanent(f"{new.name}: qemu-img check finds faults in the merged tip")
    if not img.compare(accept(old, top.facts), image):
        raise Permanent(f"{new.name}: the merged tip reads differently")
