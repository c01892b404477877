"""Engine `rebase`: `qemu-img rebase` of the run's top over its base, inside one chain behind the guard.

Rebase compares what the guest sees through the run with what it sees through the base, and keeps what differs; so it is
right for every mix of layers (notes, format matrix) and drops data that the base holds as well. Of the layers it gets
their metadata and the clusters that the comparison looks at (`tasks.chain.needs`), nothing else; should QEMU want a
byte more, it gets an I/O error and the action fails. A guest cluster's worth of wrong data is not possible.

Order, and what a crash leaves (only files in the work directory, which the next reservation removes):

1. metadata, then the needed clusters of the run, the base and what is under it
2. qemu-img rebase writes into the replica of the top
3. the replica's header gets the base's file name; the result is laid out for the upload (`tasks.execute.relaid`)
"""

from tasks.chain import needs
from tasks.chain.extent import union
from tasks.chain.layer import layer_file_name
from tasks.errors import Refused
from tasks.execute import guarded
from tasks.execute.guest import LocalLayer
from tasks.execute.job import Job, Opened, check_bitmaps, check_links, open_layers
from tasks.execute.proof import Evidence
from tasks.execute.relaid import finish
from tasks.execute.replica import one_range
from tasks.execute.result import Result
from tasks.inventory.local import inspect_file
from tasks.qemu import guard, img
from tasks.units import MIB

_ROOM_CLUSTERS = 64  # for new L2 tables and refcount blocks, besides what is computed


def merge(job: Job) -> Result:
    """The merged layer as a local file, with the evidence for its proof."""
    action = job.action
    if action.base is None:
        raise Refused("flatten", f"disk {action.disk_id}: rebase needs a base to compare with")
    layers = open_layers(job, (*action.run, action.base, *action.below))
    run, under = layers[: len(action.run)], layers[len(action.run) :]
    check_links([*run, *under], None, complete=True)
    check_bitmaps(job, run, top_too=True)
    _fetch(run, under)
    job.at("fetched")
    top, old = run[0]
    guarded.link([*run, *under])
    exports = [guarded.export(*run[0], grow_bytes=room(run))]
    exports += [guarded.export(replica, layer) for replica, layer in (*run[1:], *under)]
    with guard.serve(job.folder, exports, job.limits):
        before = img.check_guarded(job.folder, top.ref.layer_id, limits=job.limits)
        img.rebase_guarded(job.folder, top.ref.layer_id, action.base.layer_id, limits=job.limits)
        after = img.check_guarded(job.folder, top.ref.layer_id, limits=job.limits)
    written = guard.written(exports[0].image)
    top.adopt(written, after.image_end)
    guarded.point_header(top, old.map.facts.cluster_size, layer_file_name(action.base.layer_id), bitmaps=True)
    result = LocalLayer(top, inspect_file(top.path))
    changed = union(written, one_range(0, old.map.facts.cluster_size))
    evidence = Evidence(
        run=[layer for _, layer in run],
        under=[layer for _, layer in under],
        result=result,
        top_bytes=top.ref.size_bytes,
        leaks_before=before.leaks,
        check=after,
        base=action.base,
        base_size=under[0][1].map.facts.virtual_size,
        drops_equal=True,
    )
    return finish(job, top, changed, evidence)


def room(run: list[Opened]) -> int:
    """Bytes by which the top can grow at most: every moved cluster, the tables for them, and their refcounts."""
    facts = run[0][1].map.facts
    moved = needs.moved([layer.view for _, layer in run], facts.cluster_size)
    clusters = -(-moved.total_bytes // facts.cluster_size) + len(moved)
    tables = -(-facts.virtual_size // (facts.cluster_size * facts.cluster_size // 16)) + 1
    refcounts = (clusters + tables) * facts.refcount_bits // 8 // facts.cluster_size + 1
    total = (clusters + tables + 2 * refcounts + _ROOM_CLUSTERS) * facts.cluster_size
    return -(-total // MIB) * MIB


def _fetch(run: list[Opened], under: list[Opened]) -> None:
    facts = run[0][1].map.facts
    wanted = needs.rebase_needs(
        [layer.view for _, layer in run], [layer.view for _, layer in under], facts.cluster_size
    )
    for number, ((replica, layer), ranges) in enumerate(zip((*run, *under), wanted, strict=True)):
        guarded.complete_metadata(replica, layer, writable=number == 0)
        replica.fetch(ranges)
