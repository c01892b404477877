"""Sparse replicas made ready for QEMU: metadata complete, headers pointing at each other inside the guard.

The local copy of a header names the next layer's export, so that QEMU sees one chain with one spelling of names; the
object's own header is never changed. Bitmaps are taken out of the local headers: QEMU would load them on opening.
"""

from collections.abc import Sequence

import numpy as np

from tasks.chain import header_rewrite
from tasks.chain.extent import ranges_of, union
from tasks.chain.qcow2_layout import L2_OFFSET_MASK, parse_header
from tasks.execute.guest import LocalLayer
from tasks.execute.replica import Replica, one_range
from tasks.qemu import guard
from tasks.qemu.accepted import accept


def complete_metadata(replica: Replica, layer: LocalLayer, *, writable: bool) -> None:
    """Fetch what QEMU reads besides the L2 tables: the header cluster, the refcount table and, to write, its blocks."""
    replica.fetch(one_range(0, layer.map.facts.cluster_size))
    header = parse_header(replica.read(0, layer.map.facts.cluster_size))
    table = one_range(
        header.reftable_offset, header.reftable_offset + (header.reftable_clusters << header.cluster_bits)
    )
    replica.fetch(table)
    if writable:
        words = np.frombuffer(replica.read(int(table.start[0]), table.total_bytes), ">u8").astype(np.uint64)
        blocks = (words & np.uint64(L2_OFFSET_MASK)).astype(np.int64)
        blocks = blocks[blocks != 0]
        replica.fetch(ranges_of(blocks, blocks + header.cluster_size))


def point_header(replica: Replica, cluster_size: int, name: str | None, *, bitmaps: bool = False) -> None:
    """Let the local header name another backing file in format qcow2 (None: no backing)."""
    first = replica.read(0, cluster_size)
    if not bitmaps:
        first = header_rewrite.without_bitmaps(first)
    replica.put(0, header_rewrite.rewrite_backing(first, name, "qcow2" if name else None))


def export(replica: Replica, layer: LocalLayer, *, grow_bytes: int = 0) -> guard.Export:
    """The replica as an export; `grow_bytes` > 0 makes it writable, with so much room behind its end."""
    held = replica.held
    if grow_bytes:
        held = union(held, one_range(replica.size, replica.size + grow_bytes))
    image = accept(replica.path, layer.map.facts)
    return guard.Export(replica.ref.layer_id, image, replica.size + grow_bytes, held, writable=grow_bytes > 0)


def link(layers: Sequence[tuple[Replica, LocalLayer]]) -> None:
    """Let each local header name the next layer's export."""
    names = [guard.url(replica.ref.layer_id) for replica, _ in layers[1:]]
    for (replica, layer), name in zip(layers, [*names, None], strict=True):
        point_header(replica, layer.map.facts.cluster_size, name)
