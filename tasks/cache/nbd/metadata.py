"""A layer's metadata, fetched early: what QEMU reads to open it, and the first table that it looks into afterwards."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tasks.units import KIB, MIB

if TYPE_CHECKING:
    from tasks.cache.nbd.blocks import Layer, Reader
    from tasks.cache.nbd.reader import BlockReader

_HEADER = struct.Struct(">4sIQIIQIIQQI")  # up to refcount_table_clusters
_MAX_TABLE = 4 * MIB  # a larger table is read when QEMU asks for it
_FIRST_BYTES = 320 * KIB  # header, refcount table and block, L1 and the first L2 table of most layers: one request


def prefetch_metadata(blocks: BlockReader, layer: Layer, reader: Reader) -> None:
    """Header, L1 and refcount table. The header is a tenant's: what it says only chooses what is fetched early."""
    size = blocks.size(layer, reader)
    head = bytearray(min(size, _FIRST_BYTES))
    blocks.read_into(layer, 0, memoryview(head), reader=reader, keep=True)
    for start, length in metadata_ranges(bytes(head), size):
        blocks.read_into(layer, start, memoryview(bytearray(length)), reader=reader, keep=True)


def metadata_ranges(head: bytes, size: int) -> list[tuple[int, int]]:
    """The tables' `(offset, bytes)` inside an object of `size` bytes; nothing for what is no qcow2 header."""
    if len(head) < _HEADER.size:
        return []
    fields = _HEADER.unpack_from(head)
    magic, cluster_bits, l1_entries, l1_offset, table_offset, table_clusters = (
        fields[0], fields[4], fields[7], fields[8], fields[9], fields[10],
    )  # fmt: skip
    if magic != b"QFI\xfb" or not 9 <= cluster_bits <= 21:
        return []
    tables = [(l1_offset, 8 * l1_entries), (table_offset, table_clusters << cluster_bits)]
    return [(start, length) for start, length in tables if 0 < length <= _MAX_TABLE and start + length <= size]
