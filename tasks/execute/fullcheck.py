"""Policy `verify = full`: the whole guest view of the old chain against that of the new one, out of the stores."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.chain import needs
from tasks.chain.visible import resolve
from tasks.errors import Permanent
from tasks.execute.guest import GuestView, LocalLayer, whole
from tasks.execute.job import Job, open_layer
from tasks.execute.replica import Replica
from tasks.plan.steps import LayerRef


def compare_views(job: Job, new_top: Sequence[LayerRef]) -> None:
    """`new_top`: the new layers, top first; the rest of the chain is unchanged. Permanent if anything differs."""
    folder = job.folder / "full"
    folder.mkdir()
    here = replace(job, folder=folder)
    kept = job.chain[len(job.action.above) + len(job.action.run) :]
    old_refs, new_refs = job.chain, (*new_top, *kept)
    opened = {ref.layer_id: open_layer(here, ref) for ref in {*old_refs, *new_refs}}
    old, new = ([opened[ref.layer_id] for ref in refs] for refs in (old_refs, new_refs))
    sizes = [chain[0][1].map.facts.virtual_size for chain in (old, new)]
    if sizes[0] != sizes[1]:
        raise Permanent(f"full verification: size {sizes[0]} became {sizes[1]}")
    hashes = [_hash(chain) for chain in (old, new)]
    for replica, _ in opened.values():
        replica.close()
        replica.path.unlink()
    if hashes[0] != hashes[1]:
        raise Permanent(f"full verification: the guest view {hashes[0]} became {hashes[1]}")


def _hash(chain: Sequence[tuple[Replica, LocalLayer]]) -> str:
    layers = [layer for _, layer in chain]
    view = resolve([layer.view for layer in layers])
    for number, (replica, _) in enumerate(chain):
        replica.fetch(needs.host_ranges(needs.pieces_of(view, number)))
    return GuestView(layers).sha256(whole(layers[0].map.facts.virtual_size))
