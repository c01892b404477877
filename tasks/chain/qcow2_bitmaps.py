"""Persistent bitmaps: directory and tables, as far as QEMU checks them on opening. The bits are not read."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.chain import qcow2_reasons as why
from tasks.chain.extent import I64
from tasks.chain.qcow2_layout import ENTRY_BYTES, BitmapsExtension, Header, Limits
from tasks.errors import Refused

_ENTRY = struct.Struct(">QIIBBHI")
MAX_TABLE_ENTRIES = 0x8000000  # QEMU's own
MAX_BITMAP_BYTES = 0x20000000  # QEMU's own: clusters of one bitmap, as stored
MAX_NAME = 1023
KNOWN_FLAGS = 0b111  # in_use, auto, extra_data_compatible
FLAG_IN_USE = 1  # not closed by its writer: QEMU does not load it
DIRTY_TRACKING = 1
_RESERVED_MASK = 0xFF000000000001FE  # of a table entry
_OFFSET_MASK = 0x00FFFFFFFFFFFE00
_ALL_ONES = 1
MIN_GRANULARITY_BITS, MAX_GRANULARITY_BITS = 9, 31


@dataclass(frozen=True, slots=True)
class BitmapTable:
    """Where one bitmap's table is, in bytes."""

    name: bytes
    offset: int
    length: int


def parse_directory(
    raw: bytes, extension: BitmapsExtension, header: Header, object_bytes: int, limits: Limits
) -> list[BitmapTable]:
    """All entries of the directory. Raises Refused (bitmap_directory) where QEMU would refuse to open the image."""
    tables: list[BitmapTable] = []
    offset = 0
    while offset < len(raw):
        if len(tables) == extension.count or offset + _ENTRY.size > len(raw):
            raise Refused(why.BITMAP_DIRECTORY, f"bitmap directory does not end after {extension.count} entries")
        table, size = _parse_entry(raw, offset, header, object_bytes)
        tables.append(table)
        offset += size
    if offset != len(raw) or len(tables) != extension.count:
        raise Refused(why.BITMAP_DIRECTORY, f"bitmap directory of {len(tables)} entries, {extension.count} announced")
    if len({table.name for table in tables}) < len(tables):
        raise Refused(why.BITMAP_DIRECTORY, "two bitmaps have one name")
    if sum(table.length for table in tables) > limits.max_bitmap_table_bytes:
        raise Refused(why.BITMAP_DIRECTORY, f"bitmap tables of more than {limits.max_bitmap_table_bytes} bytes")
    return tables


def _parse_entry(raw: bytes, at: int, header: Header, object_bytes: int) -> tuple[BitmapTable, int]:
    offset, entries, flags, kind, granularity, name_size, extra = _ENTRY.unpack_from(raw, at)
    size = -(-(_ENTRY.size + extra + name_size) // 8) * 8
    sound = (
        _place_is_sound(offset, entries, header, object_bytes)
        and MIN_GRANULARITY_BITS <= granularity <= MAX_GRANULARITY_BITS
        and not flags & ~KNOWN_FLAGS
        and kind == DIRTY_TRACKING
        and 0 < name_size <= MAX_NAME
        and extra == 0  # QEMU knows none
        and at + size <= len(raw)
        and (flags & FLAG_IN_USE or entries == _table_entries(header, granularity))
    )
    if not sound:
        where = f"table of {entries} entries at {offset}, granularity 2^{granularity}, flags {flags:#x}"
        raise Refused(why.BITMAP_DIRECTORY, f"bitmap entry at {at}: {where}")
    name = raw[at + _ENTRY.size : at + _ENTRY.size + name_size]
    return BitmapTable(name, offset, entries * ENTRY_BYTES), size


def _place_is_sound(offset: int, entries: int, header: Header, object_bytes: int) -> bool:
    return (
        offset > 0
        and entries > 0
        and offset % header.cluster_size == 0
        and entries <= MAX_TABLE_ENTRIES
        and entries << header.cluster_bits <= MAX_BITMAP_BYTES
        and offset + entries * ENTRY_BYTES <= object_bytes
    )


def _table_entries(header: Header, granularity_bits: int) -> int:
    """Clusters of a bitmap of the whole disk, as QEMU stores it: in words of 64 bits."""
    bits = -(-header.virtual_size // (1 << granularity_bits))
    return -(-(-(-bits // 64) * 8) // header.cluster_size)


def bitmap_clusters(tables: Sequence[bytes], header: Header, object_bytes: int) -> I64:
    """Host offsets of the clusters that bits are stored in. Raises Refused (bitmap_table)."""
    words = np.frombuffer(b"".join(tables), ">u8").astype(np.uint64)
    offsets: I64 = (words & np.uint64(_OFFSET_MASK)).astype(np.int64)
    wrong = (words & np.uint64(_RESERVED_MASK)) != 0
    wrong |= (offsets != 0) & ((words & np.uint64(_ALL_ONES)) != 0)
    wrong |= (offsets & (header.cluster_size - 1)) != 0
    wrong |= offsets >= object_bytes
    if wrong.any():
        raise Refused(why.BITMAP_TABLE, f"bitmap table with {int(wrong.sum())} impossible entries")
    found: I64 = offsets[offsets != 0]
    return found
