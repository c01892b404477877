"""Engine `compose`: the merged image is laid out here, without QEMU; the store copies the data itself.

Through the worker go the headers of the run, the pieces that are too small or too sparse to copy, and the new front
(header, tables, those pieces). See `tasks.chain.compose_layout`. The run's extents come with the plan, out of the
manifest: they are true of the objects with the ETags that they were read under, and under these ETags everything here
is read and copied. Where there are none, the tables are read from the layers.

Order, and what a crash leaves (only files in the work directory, which the next reservation removes):

1. headers and extents of the run; the layout
2. the packed pieces are fetched and the front is written to a local file
3. proof: `qemu-img check` of the whole image with everything behind the front as holes that nobody may read; our
   reader's map equals the planned one; packed pieces are hashed on both sides
"""

from collections.abc import Sequence

from tasks import descriptors
from tasks.chain import run_maps
from tasks.chain.compose_layout import Layout, lay_out
from tasks.chain.compose_pieces import Source
from tasks.chain.layer import ExtentKind
from tasks.errors import Refused
from tasks.execute.assemble import Assembled, assemble, fetch_packed
from tasks.execute.guest import GuestView, same_content
from tasks.execute.job import Job, Opened, check_bitmaps, check_links, open_known, open_layers
from tasks.execute.parallel import in_parallel
from tasks.execute.receipt import Proof
from tasks.execute.result import Result


def merge(job: Job) -> Result:
    """The merged layer: its front as a local file, everything else as copies."""
    action = job.action
    run = _open(job)
    check_links(run, action.base, complete=True)
    check_bitmaps(job, run, top_too=False)
    check_mix(run, job)
    if job.maps is not None:
        _check_known(run)
    layout = _layout(job, run)
    fetch_packed(layout, run)
    job.at("fetched")
    made = assemble(job, layout, run)
    return Result(made.layer, made.parts, lambda: _prove(made))


def _open(job: Job) -> list[Opened]:
    """The run with its extents: from the plan where it has them for these ETags, else from the layers' own tables."""
    refs = job.action.run
    if job.maps is None:
        return open_layers(job, refs)
    known = run_maps.decode(job.maps, [run_maps.Name(ref.layer_id, ref.etag) for ref in refs])
    descriptors.allow(len(refs) + len(job.chain))
    return in_parallel(lambda pair: open_known(job, *pair), list(zip(refs, known, strict=True)))


def _check_known(run: Sequence[Opened]) -> None:
    for replica, layer in run:
        facts = layer.map.facts
        run_maps.check_fits(layer.map.extents, facts.virtual_size, replica.ref.size_bytes, facts.cluster_size)


def _layout(job: Job, run: Sequence[Opened]) -> Layout:
    """The layout for these layers under the fleet's policy."""
    sources = [
        Source(layer.view, replica.ref.size_bytes, job.can_copy_from(replica.ref.region)) for replica, layer in run
    ]
    share = job.fleet.policy.max_garbage_share
    return lay_out(
        sources, run[0][1].map.facts.cluster_bits, has_base=job.action.base is not None, max_dead_share=share
    )


def check_mix(run: Sequence[Opened], job: Job) -> None:
    """Refused, with the hazard's name, for what cannot be composed (hazards 6, 7, 10)."""
    top = run[0][1].map.facts
    kinds = set()
    for replica, layer in run:
        facts, name = layer.map.facts, f"layer {replica.ref.layer_id}"
        if facts.extended_l2:
            raise Refused("extended_l2", f"{name} has sub-clusters")
        if facts.cluster_bits != top.cluster_bits:
            raise Refused("cluster_size_mix", f"{name}: clusters of {facts.cluster_size}, the top {top.cluster_size}")
        if (layer.map.extents.kind == ExtentKind.COMPRESSED).any():
            kinds.add(facts.compression_type)
    if len(kinds) > 1:
        raise Refused("compressed_mix", f"disk {job.action.disk_id}: compression types {', '.join(sorted(kinds))}")


def _prove(made: Assembled) -> Proof:
    made.check()
    packed = made.packed()
    digest = same_content(GuestView([layer for _, layer in made.sources]), GuestView([made.layer]), packed)
    return Proof("clean", len(packed), packed.total_bytes, digest, digest, "", map_equal=True)
