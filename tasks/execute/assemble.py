"""Make an image from its layout: a front that is written here and sent, and ranges that the store copies behind it.

What the store copies is not read here: its place is proved by the map, its bytes by the source's ETag under which the
store copies, and both ends of each copied part are compared after the upload. `verify = full` compares all of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.chain.compose_layout import Layout, packed_ranges
from tasks.chain.compose_metadata import expected_extents, metadata
from tasks.chain.extent import I64, Ranges, ranges_of
from tasks.chain.layer import layer_file_name
from tasks.chain.parts import PartPlan, cut
from tasks.chain.qcow2_names import NameRules
from tasks.errors import Permanent
from tasks.execute.guest import LocalLayer
from tasks.execute.job import Job, Opened
from tasks.execute.replica import HeldFile, one_range
from tasks.execute.upload import Copy, PartSource, Send
from tasks.inventory.local import inspect_file
from tasks.qemu import guard, img
from tasks.qemu.accepted import accept


@dataclass(frozen=True, slots=True, eq=False)
class Assembled:
    """The image: `layer` holds its front, `parts` make the object. `sources`: what the layout counts by."""

    job: Job
    layout: Layout
    sources: Sequence[Opened]
    name: str | None  # of the backing file
    layer: LocalLayer
    parts: Sequence[PartSource]

    def packed(self) -> Ranges:
        """Guest ranges whose bytes went through the worker."""
        layout = self.layout
        start: I64 = layout.pieces.guest[layout.packed] * layout.cluster_size
        return ranges_of(start, np.minimum(start + layout.cluster_size, layout.virtual_size))

    def check(self) -> None:
        """Header, our reader's map against the planned one, `qemu-img check` with holes behind the front. Permanent."""
        facts, layout = self.layer.map.facts, self.layout
        if facts.status != "ok":
            raise Permanent(f"the composed image is not sound: {facts.reason}: {facts.detail}")
        if facts.virtual_size != layout.virtual_size or facts.backing_file != self.name:
            raise Permanent(f"composed header: size {facts.virtual_size}, backing {facts.backing_file!r}")
        if self.layer.map.extents != expected_extents(layout):
            raise Permanent("the composed image's map is not the planned one")
        file, job = self.layer.file, self.job
        export = guard.Export("composed", accept(file.path, facts), layout.total_bytes, file.held)
        with guard.serve(job.folder, [export], job.limits):
            check = img.check_guarded(job.folder, "composed", limits=job.limits)
        if not check.clean:
            raise Permanent(f"image check of the composed image: {check}")


def assemble(job: Job, layout: Layout, sources: Sequence[Opened]) -> Assembled:
    """Write the front. `sources`: the replica and map of each of the layout's sources, `fetch_packed` done."""
    name = layer_file_name(job.action.base.layer_id) if job.action.base else None
    file = _write_front(job, layout, sources, name)
    layer = LocalLayer(file, inspect_file(file.path, NameRules(own_name=file.path.name)))
    return Assembled(job, layout, sources, name, layer, _parts(layout, file, sources))


def fetch_packed(layout: Layout, sources: Sequence[Opened]) -> None:
    """Bring the pieces that go to the front."""
    for number, (replica, _) in enumerate(sources):
        replica.fetch(packed_ranges(layout, number))


def _compression_of(layout: Layout, sources: Sequence[Opened]) -> str:
    """Of the compressed pieces; zlib if there are none."""
    owners = np.unique(layout.pieces.source[layout.pieces.compressed])
    return sources[int(owners[0])][1].map.facts.compression_type if len(owners) else "zlib"


def _write_front(job: Job, layout: Layout, sources: Sequence[Opened], name: str | None) -> HeldFile:
    path = job.folder / layer_file_name(job.new_layer_id(0))
    path.touch(mode=0o600, exist_ok=False)
    with path.open("r+b") as out:
        out.truncate(layout.total_bytes)
        for at, body in metadata(layout, name, _compression_of(layout, sources)):
            out.seek(at)
            out.write(body)
        for source, start, length, target in _packed_runs(layout):
            out.seek(target)
            out.write(sources[source][0].read(start, length))
    file = HeldFile(path, layout.total_bytes, one_range(0, layout.front_bytes))
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


def _parts(layout: Layout, file: HeldFile, sources: Sequence[Opened]) -> list[PartSource]:
    front = cut([PartPlan(copy=False, start=0, length=layout.front_bytes)], layout.total_bytes)
    parts: list[PartSource] = [Send(file, part.start, part.length) for part in front]
    for segment in layout.segments:
        start, end = segment.start << layout.cluster_bits, segment.end << layout.cluster_bits
        pieces = cut([PartPlan(copy=True, start=start, length=end - start)], layout.total_bytes)
        parts += [Copy(sources[segment.source][0].ref, piece.start, piece.length) for piece in pieces]
    return parts
