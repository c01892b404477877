"""The directory of persistent bitmaps: names, sizes and places. The bits themselves are not read."""

import struct
from dataclasses import dataclass

from tasks.chain import qcow2_reasons as why
from tasks.chain.qcow2_layout import ENTRY_BYTES, BitmapsExtension, Header
from tasks.errors import Refused

_ENTRY = struct.Struct(">QIIBBHI")
MAX_TABLE_ENTRIES = 0x8000000  # QEMU's own
MAX_BITMAP_BYTES = 0x20000000  # QEMU's own: clusters of one bitmap, as stored
MAX_NAME = 1023
KNOWN_FLAGS = 0b111  # in_use, auto, extra_data_compatible
DIRTY_TRACKING = 1
MIN_GRANULARITY_BITS, MAX_GRANULARITY_BITS = 9, 31


@dataclass(frozen=True, slots=True)
class BitmapTable:
    """Where one bitmap's table is, in bytes."""

    name: str
    offset: int
    length: int


def parse_directory(raw: bytes, extension: BitmapsExtension, header: Header, object_bytes: int) -> list[BitmapTable]:
    """All entries of the directory. Raises Refused (bitmap_directory) where QEMU would refuse to list them."""
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
    return tables


def _parse_entry(raw: bytes, at: int, header: Header, object_bytes: int) -> tuple[BitmapTable, int]:
    offset, entries, flags, kind, granularity, name_size, extra = _ENTRY.unpack_from(raw, at)
    size = -(-(_ENTRY.size + extra + name_size) // 8) * 8
    length = entries * ENTRY_BYTES
    name_at = at + _ENTRY.size + extra
    sound = (
        offset
        and entries
        and offset % header.cluster_size == 0
        and entries <= MAX_TABLE_ENTRIES
        and entries << header.cluster_bits <= MAX_BITMAP_BYTES
        and offset + length <= object_bytes
        and MIN_GRANULARITY_BITS <= granularity <= MAX_GRANULARITY_BITS
        and not flags & ~KNOWN_FLAGS
        and kind == DIRTY_TRACKING
        and 0 < name_size <= MAX_NAME
        and extra == 0  # QEMU knows no extra data and would drop it
        and at + size <= len(raw)
    )
    if not sound:
        raise Refused(
            why.BITMAP_DIRECTORY, f"bitmap entry at {at}: table [{offset}, {offset + length}), flags {flags:#x}"
        )
    return BitmapTable(raw[name_at : name_at + name_size].decode("utf-8", "replace"), offset, length), size
