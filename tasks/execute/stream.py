"""Engine `stream`: one offline block-stream of the whole run into its top, behind the guard.

The lowest layer of the run is opened with `backing: null`, so nothing below it is opened or read; the top is a replica
that holds metadata only, because stream writes whole clusters that the top does not have. Stream copies by allocation,
not by comparison, which is why it needs no base and why a stub may not stand in for one (notes §4).

Order, and what a crash leaves (only files in the work directory, which the next reservation removes):

1. metadata of the run, then the surviving clusters of its lower layers
2. block-stream writes into the replica of the top; the object's own header is not touched
3. only after BLOCK_JOB_COMPLETED without an error, and the daemon's orderly end, the replica's header gets the base;
   the result is laid out for the upload (`tasks.execute.relaid`)

Refused here again, whatever the plan says: mixes for which this is not right (hazards 1, 5, 7, 8).
"""

from tasks.chain import needs
from tasks.chain.extent import union
from tasks.chain.layer import layer_file_name
from tasks.errors import Refused
from tasks.execute import guarded
from tasks.execute.guest import LocalLayer
from tasks.execute.job import Job, Opened, check_bitmaps, check_links, open_layers, virtual_size_of
from tasks.execute.proof import Evidence
from tasks.execute.rebase import room
from tasks.execute.relaid import finish
from tasks.execute.replica import one_range
from tasks.execute.result import Result
from tasks.inventory.local import inspect_file
from tasks.qemu import guard, img
from tasks.qemu.storage_daemon import Node, run_block_job


def merge(job: Job) -> Result:
    """The merged layer as a local file, with the evidence for its proof."""
    action = job.action
    run = open_layers(job, action.run)
    check_links(run, action.base, complete=True)
    check_bitmaps(job, run, top_too=True)
    base_size = virtual_size_of(job, action.base) if action.base else 0
    check_mix(run, base_size)
    _fetch(run)
    job.at("fetched")
    top, old = run[0]
    for replica, layer in run:
        guarded.point_header(replica, layer.map.facts.cluster_size, None, bitmaps=False)
    exports = [guarded.export(*run[0], grow_bytes=room(run))]
    exports += [guarded.export(replica, layer) for replica, layer in run[1:]]
    with guard.serve(job.folder, exports, job.limits):
        before = img.check_guarded(job.folder, top.ref.layer_id, limits=job.limits)
        run_block_job(job.folder, _nodes(run), "block-stream", limits=job.limits, device="n0")
        after = img.check_guarded(job.folder, top.ref.layer_id, limits=job.limits)
    top.adopt(guard.written(exports[0].image), after.image_end)
    name = layer_file_name(action.base.layer_id) if action.base else None
    guarded.point_header(top, old.map.facts.cluster_size, name, bitmaps=False)
    result = LocalLayer(top, inspect_file(top.path))
    changed = union(guard.written(exports[0].image), one_range(0, old.map.facts.cluster_size))
    evidence = Evidence(
        run=[layer for _, layer in run],
        under=[],
        result=result,
        top_bytes=top.ref.size_bytes,
        leaks_before=before.leaks,
        check=after,
        base=action.base,
        base_size=base_size,
        drops_equal=False,
    )
    return finish(job, top, changed, evidence)


def check_mix(run: list[Opened], base_size: int) -> None:
    """Refused, with the hazard's name, unless stream is right for this mix (notes, format matrix)."""
    top = run[0][1].map.facts
    exposed = min(top.virtual_size, base_size)
    for replica, layer in run:
        facts, name = layer.map.facts, f"layer {replica.ref.layer_id}"
        if facts.version < 3:
            raise Refused("v2", f"{name} is version {facts.version}: its zero writes are data")
        if facts.extended_l2:
            raise Refused("extended_l2", f"{name} has sub-clusters")
        if facts.cluster_bits != top.cluster_bits:
            raise Refused(
                "cluster_size_mix", f"{name} has clusters of {facts.cluster_size}, the top {top.cluster_size}"
            )
        if facts.virtual_size < exposed:
            raise Refused("short_parent", f"{name} ends at {facts.virtual_size}: the base would show up to {exposed}")


def _fetch(run: list[Opened]) -> None:
    wanted = needs.stream_needs([layer.view for _, layer in run])
    for number, ((replica, layer), ranges) in enumerate(zip(run, wanted, strict=True)):
        guarded.complete_metadata(replica, layer, writable=number == 0)
        replica.fetch(ranges)


def _nodes(run: list[Opened]) -> list[Node]:
    """The run as block nodes, lowest first: n0 is the top, the lowest has no backing."""
    nodes: list[Node] = []
    for number in range(len(run) - 1, -1, -1):
        replica, _ = run[number]
        readonly = number > 0
        protocol = {**guard.blockdev(replica.ref.layer_id), "node-name": f"f{number}", "read-only": readonly}
        backing = None if number == len(run) - 1 else f"n{number + 1}"
        image = {"driver": "qcow2", "node-name": f"n{number}", "file": f"f{number}", "backing": backing}
        nodes += [protocol, {**image, "read-only": readonly}]
    return nodes
