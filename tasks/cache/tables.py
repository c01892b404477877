"""Where a layer's own tables are: what QEMU reads when it opens it, and which L2 table maps which guest range."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tasks.chain import qcow2_checks
from tasks.chain.extent import I64
from tasks.chain.qcow2_bitmaps import parse_directory
from tasks.chain.qcow2_layout import (
    ENTRY_BYTES,
    L1_OFFSET_MASK,
    Extensions,
    Header,
    Limits,
    parse_extensions,
    parse_header,
)
from tasks.errors import Refused
from tasks.units import KIB

FIRST_BYTES = 256 * KIB  # header, refcount table and L1 of most layers
Read = Callable[[int, int], bytes]  # offset, length -> bytes of the object


@dataclass(frozen=True, slots=True, eq=False)
class LayerTables:
    """Of one layer. `l2_offsets` by L1 index, 0 = no table; `open_ranges` are (offset, bytes)."""

    header: Header
    size_bytes: int
    l2_offsets: I64
    open_ranges: tuple[tuple[int, int], ...]


def read_tables(size_bytes: int, read: Read, limits: Limits | None = None) -> LayerTables:
    """Read header and L1 of an object. Refused if they are not those of a sound qcow2 image; `read`'s errors pass."""
    first = read(0, min(size_bytes, FIRST_BYTES))
    header = parse_header(first)
    if len(first) < min(header.cluster_size, size_bytes):
        first = read(0, min(size_bytes, header.cluster_size))
    extensions = parse_extensions(first, header)
    qcow2_checks.check_features(header, extensions.feature_names)
    qcow2_checks.check_tables(header, size_bytes, limits or Limits())

    def part(start: int, length: int) -> bytes:
        inside = first[start : start + length]
        return inside if len(inside) == length else read(start, length)

    l1_bytes = header.l1_entries * ENTRY_BYTES
    table = np.frombuffer(part(header.l1_offset, l1_bytes), ">u8").astype(np.uint64)
    offsets: I64 = (table & np.uint64(L1_OFFSET_MASK)).astype(np.int64)
    if len(offsets) and int(offsets.max()) + header.cluster_size > size_bytes and offsets.any():
        raise Refused("l2_outside", f"L2 table at {int(offsets.max())}, object has {size_bytes} bytes")
    ranges = [
        (0, min(header.cluster_size, size_bytes)),
        (header.l1_offset, l1_bytes),
        (header.reftable_offset, header.reftable_clusters << header.cluster_bits),
        *_bitmap_ranges(header, extensions, size_bytes, part),
    ]
    return LayerTables(header, size_bytes, offsets, tuple(one for one in ranges if one[1]))


def _bitmap_ranges(header: Header, extensions: Extensions, size_bytes: int, part: Read) -> list[tuple[int, int]]:
    """QEMU loads persistent bitmaps when it opens the image: their directory, tables and clusters."""
    found = extensions.bitmaps
    if found is None:
        return []
    qcow2_checks.check_bitmap_directory(found, size_bytes, Limits())
    ranges = [(found.directory_offset, found.directory_size)]
    for table in parse_directory(
        part(found.directory_offset, found.directory_size), found, header, size_bytes, Limits()
    ):
        entries = np.frombuffer(part(table.offset, table.length), ">u8").astype(np.uint64)
        clusters = np.unique((entries & np.uint64(L1_OFFSET_MASK)).astype(np.int64))
        inside = clusters[(clusters > 0) & (clusters < size_bytes)].tolist()
        ranges += [(table.offset, table.length), *((at, header.cluster_size) for at in inside)]
    return ranges
