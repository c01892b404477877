"""Engine `compose`: the merged image is laid out here, without QEMU; the store copies the data itself.

Through the worker go the metadata of the run, the pieces that are too small or too sparse to copy, and the new front
(header, tables, those pieces). See `tasks.chain.compose_layout`.

Order, and what a crash leaves (only files in the work directory, which the next reservation removes):

1. metadata of the run; the layout
2. the packed pieces are fetched and the front is written to a local file
3. proof: `qemu-img check` of the whole image with everything behind the front as holes that nobody may read; our
   reader's map equals the planned one; packed pieces are hashed on both sides

What the store copies is not read here: its place is proved by the map, its bytes by the source's ETag under which the
store copies, and both ends of each copied part are compared after the upload. `verify = full` compares all of it.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from tasks.chain.compose_layout import Layout, Source, lay_out
from tasks.chain.compose_metadata import expected_extents, metadata
from tasks.chain.extent import I64, Ranges, ranges_of
from tasks.chain.layer import ExtentKind, layer_file_name
from tasks.chain.parts import PartPlan, cut
from tasks.chain.qcow2_names import NameRules
from tasks.errors import Permanent, Refused
from tasks.execute.guest import GuestView, LocalLayer
from tasks.execute.job import Job, check_bitmaps, check_links, open_layer
from tasks.execute.rebase import Opened
from tasks.execute.receipt import Proof
from tasks.execute.replica import HeldFile, one_range
from tasks.execute.result import Result
from tasks.execute.upload import Copy, PartSource, Send
from tasks.inventory.local import inspect_file
from tasks.qemu import guard, img
from tasks.qemu.accepted import accept


def merge(job: Job) -> Result:
    """The merged layer: its front as a local file, everything else as copies."""
    action = job.action
    run = [open_layer(job, ref) for ref in action.run]
    check_links(run, action.base, complete=True)
    check_bitmaps(job, run, top_too=False)
    check_mix(run, job)
    layout = plan_layout(job, run)
    for number, (replica, _) in enumerate(run):
        replica.fetch(packed_ranges(layout, number))
    job.at("fetched")
    name = layer_file_name(action.base.layer_id) if action.base else None
    file = _write_front(job, layout, run, name)
    result = LocalLayer(file, inspect_file(file.path, NameRules(own_name=file.path.name)))
    return Result(result, _parts(layout, file, run), lambda: _prove(job, layout, run, result, name))


def plan_layout(job: Job, run: Sequence[Opened]) -> Layout:
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


def packed_ranges(layout: Layout, number: int) -> Ranges:
    """What must be fetched of a source: its pieces that go to the front."""
    mine = layout.packed & (layout.pieces.source == number)
    host = layout.pieces.host[mine]
    return ranges_of(host, host + layout.pieces.length[mine])


def compression_of(layout: Layout, run: Sequence[Opened]) -> str:
    """Of the compressed pieces; zlib if there are none."""
    owners = np.unique(layout.pieces.source[layout.pieces.compressed])
    return run[int(owners[0])][1].map.facts.compression_type if len(owners) else "zlib"


def _write_front(job: Job, layout: Layout, run: Sequence[Opened], name: str | None) -> HeldFile:
    path = job.folder / layer_file_name(job.new_layer_id(0))
    path.touch(mode=0o600, exist_ok=False)
    held = one_range(0, layout.front_bytes)
    with path.open("r+b") as out:
        out.truncate(layout.total_bytes)
        for at, body in metadata(layout, name, compression_of(layout, run)):
            out.seek(at)
            out.write(body)
        for source, start, length, target in _packed_runs(layout):
            out.seek(target)
            out.write(run[source][0].read(start, length))
    file = HeldFile(path, layout.total_bytes, held)
    job.opened.callback(file.close)
    return file


def _packed_runs(layout: Layout) -> Iterator[tuple[int, int, int, int]]:
    """(source, start, length, target) of packed pieces, neighbours on both sides joined up to some MiB."""
    rows = np.flatnonzero(layout.packed & (layout.pieces.length > 0))
    source, host = layout.pieces.source[rows], layout.pieces.host[rows]
    length, target = layout.pieces.length[rows], layout.target[rows]
    joined = (
        (source[1:] == source[:-1]) & (host[1:] == host[:-1] + length[:-1]) & (target[1:] == target[:-1] + length[:-1])
    )
    block = np.cumsum(length) // (8 << 20)
    first = np.flatnonzero(np.concatenate(([True], ~joined | (block[1:] != block[:-1])))) if len(rows) else rows
    sums = np.add.reduceat(length, first) if len(rows) else length
    yield from zip(source[first].tolist(), host[first].tolist(), sums.tolist(), target[first].tolist(), strict=True)


def _parts(layout: Layout, file: HeldFile, run: Sequence[Opened]) -> list[PartSource]:
    front = cut([PartPlan(copy=False, start=0, length=layout.front_bytes)], layout.total_bytes)
    parts: list[PartSource] = [Send(file, part.start, part.length) for part in front]
    for segment in layout.segments:
        start, end = segment.start << layout.cluster_bits, segment.end << layout.cluster_bits
        pieces = cut([PartPlan(copy=True, start=start, length=end - start)], layout.total_bytes)
        parts += [Copy(run[segment.source][0].ref, piece.start, piece.length) for piece in pieces]
    return parts


def _prove(job: Job, layout: Layout, run: Sequence[Opened], result: LocalLayer, name: str | None) -> Proof:
    facts = result.map.facts
    if facts.status != "ok":
        raise Permanent(f"the composed image is not sound: {facts.reason}: {facts.detail}")
    if facts.virtual_size != run[0][1].map.facts.virtual_size or facts.backing_file != name:
        raise Permanent(f"composed header: size {facts.virtual_size}, backing {facts.backing_file!r}")
    if result.map.extents != expected_extents(layout):
        raise Permanent("the composed image's map is not the planned one")
    export = guard.Export("composed", accept(result.file.path, facts), layout.total_bytes, result.file.held)
    with guard.serve(job.folder, [export], job.limits):
        check = img.check_guarded(job.folder, "composed", limits=job.limits)
    if not check.clean:
        raise Permanent(f"image check of the composed image: {check}")
    packed = _packed_guest(layout)
    before = GuestView([layer for _, layer in run]).sha256(packed)
    after = GuestView([result]).sha256(packed)
    if before != after:
        raise Permanent(f"content of the packed pieces differs: {before} became {after}")
    return Proof("clean", len(packed), packed.total_bytes, before, after, "", map_equal=True)


def _packed_guest(layout: Layout) -> Ranges:
    start: I64 = layout.pieces.guest[layout.packed] * layout.cluster_size
    return ranges_of(start, np.minimum(start + layout.cluster_size, layout.virtual_size))
