"""Checks of a header against the object's size and the limits, before any of its offsets or counts is used."""

from tasks.chain import qcow2_reasons as why
from tasks.chain.qcow2_layout import (
    BIT_COMPRESSION,
    BIT_CORRUPT,
    BIT_DATA_FILE,
    BIT_DATA_FILE_RAW,
    BIT_DIRTY,
    COMPRESSION_TYPES,
    ENTRY_BYTES,
    KNOWN_INCOMPATIBLE,
    MIN_CLUSTER_BITS,
    SECTOR,
    SUBCLUSTERS,
    BitmapsExtension,
    Header,
    Limits,
)
from tasks.errors import Refused


def check_features(header: Header, names: dict[int, str]) -> None:
    """Refuse what we or QEMU cannot read, and what is not safe to read. `names` are the header's own for its bits."""
    unknown = header.incompatible & ~KNOWN_INCOMPATIBLE
    if unknown:
        bits = [names.get(bit, f"bit {bit}") for bit in range(64) if unknown >> bit & 1]
        raise Refused(why.UNKNOWN_INCOMPATIBLE, f"incompatible features: {', '.join(bits)}")
    if header.incompatible & BIT_DIRTY:
        raise Refused(why.DIRTY, "the dirty bit is set: the image was not closed")
    if header.incompatible & BIT_CORRUPT:
        raise Refused(why.CORRUPT, "the corrupt bit is set")
    if header.incompatible & BIT_DATA_FILE or header.autoclear & BIT_DATA_FILE_RAW:
        raise Refused(why.DATA_FILE, "the data is in an external file")
    if header.crypt_method:
        raise Refused(why.ENCRYPTED, f"crypt_method {header.crypt_method}")
    if header.snapshots:
        raise Refused(why.INTERNAL_SNAPSHOTS, f"{header.snapshots} internal snapshots")
    if header.snapshots_offset % header.cluster_size or header.snapshots_offset >> 63:
        raise Refused(why.SNAPSHOT_TABLE, f"snapshot table at {header.snapshots_offset}")
    _check_geometry(header)


def _check_geometry(header: Header) -> None:
    compressed_bit = bool(header.incompatible & BIT_COMPRESSION)
    if header.compression_type not in COMPRESSION_TYPES or compressed_bit != bool(header.compression_type):
        raise Refused(why.COMPRESSION_TYPE, f"compression type {header.compression_type}, feature bit {compressed_bit}")
    if header.extended_l2 and header.cluster_size // SUBCLUSTERS < 1 << MIN_CLUSTER_BITS:
        raise Refused(why.SUBCLUSTER_SIZE, f"sub-clusters of {header.cluster_size // SUBCLUSTERS} bytes")
    if header.refcount_order > 6:
        raise Refused(why.REFCOUNT_ORDER, f"refcount_order {header.refcount_order}")


def check_tables(header: Header, object_bytes: int, limits: Limits) -> None:
    """The virtual size, the L1 table and the refcount table: sizes, places, alignment."""
    _check_virtual_size(header, limits)
    _check_l1(header, object_bytes, limits)
    _check_reftable(header, object_bytes, limits)
    clusters = -(-object_bytes // header.cluster_size)
    if clusters > limits.max_host_clusters:
        raise Refused(why.TOO_MANY_HOST_CLUSTERS, f"{clusters} host clusters, at most {limits.max_host_clusters}")


def _check_virtual_size(header: Header, limits: Limits) -> None:
    if header.virtual_size > limits.max_virtual_bytes:
        raise Refused(why.VIRTUAL_SIZE, f"virtual size {header.virtual_size}, at most {limits.max_virtual_bytes}")
    if header.virtual_size % SECTOR:
        # QEMU rounds down: the guest would lose the tail, and other programs would not.
        raise Refused(why.VIRTUAL_SIZE, f"virtual size {header.virtual_size} is no multiple of {SECTOR}")


def _check_l1(header: Header, object_bytes: int, limits: Limits) -> None:
    length, start = header.l1_entries * ENTRY_BYTES, header.l1_offset
    # A table larger than needed is what QEMU leaves after shrinking an image or deleting a VM state.
    if length > limits.max_l1_bytes:
        raise Refused(why.L1_TOO_LARGE, f"L1 table of {length} bytes, at most {limits.max_l1_bytes}")
    needed = -(-header.virtual_size // header.l2_guest_bytes)
    if header.l1_entries < needed:
        raise Refused(why.L1_TOO_SMALL, f"{header.l1_entries} L1 entries, {needed} needed")
    if start % header.cluster_size:
        raise Refused(why.L1_UNALIGNED, f"L1 table at {start}")
    if start + length > object_bytes:
        raise Refused(why.L1_OUTSIDE, f"L1 table at [{start}, {start + length}), object has {object_bytes}")


def _check_reftable(header: Header, object_bytes: int, limits: Limits) -> None:
    length, start = header.reftable_clusters << header.cluster_bits, header.reftable_offset
    if not length:
        raise Refused(why.REFTABLE_MISSING, "no refcount table")
    if length > limits.max_reftable_bytes:
        raise Refused(why.REFTABLE_TOO_LARGE, f"refcount table of {length} bytes, at most {limits.max_reftable_bytes}")
    if start % header.cluster_size:
        raise Refused(why.REFTABLE_UNALIGNED, f"refcount table at {start}")
    if start + length > object_bytes:
        raise Refused(why.REFTABLE_OUTSIDE, f"refcount table at [{start}, {start + length}), object has {object_bytes}")


def check_bitmap_directory(bitmaps: BitmapsExtension, object_bytes: int, limits: Limits) -> None:
    """Place and size of the directory of persistent bitmaps."""
    start, length = bitmaps.directory_offset, bitmaps.directory_size
    if not start or not length or length > limits.max_bitmap_directory_bytes or start + length > object_bytes:
        raise Refused(why.BITMAP_DIRECTORY, f"bitmap directory at [{start}, {start + length})")
