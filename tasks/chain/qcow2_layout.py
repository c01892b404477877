"""The qcow2 format: constants, the header and its extensions. Bytes in, values out; refusals raise `Refused`.

Follows QEMU's docs/interop/qcow2.txt and, where that is silent, what block/qcow2.c accepts. All numbers are big-endian.
"""

import struct
from dataclasses import dataclass, field

from tasks.chain import qcow2_reasons as why
from tasks.errors import Refused
from tasks.units import GIB, MIB

MAGIC = 0x514649FB  # QFI\xfb
V2_HEADER_BYTES = 72
V3_HEADER_BYTES = 104  # without the optional fields
KNOWN_HEADER_BYTES = 112  # with compression_type and its padding
COMPRESSION_TYPE_AT = 104
MIN_CLUSTER_BITS, MAX_CLUSTER_BITS = 9, 21
SECTOR = 512  # unit of compressed descriptors and of virtual sizes
SUBCLUSTERS = 32
ENTRY_BYTES = 8  # of L1, the refcount table and standard L2
EXTENDED_ENTRY_BYTES = 16

INCOMPATIBLE = {0: "dirty", 1: "corrupt", 2: "data_file", 3: "compression_type", 4: "extended_l2"}
COMPATIBLE = {0: "lazy_refcounts"}
AUTOCLEAR = {0: "bitmaps", 1: "data_file_raw"}
BIT_DIRTY, BIT_CORRUPT, BIT_DATA_FILE, BIT_COMPRESSION, BIT_EXTENDED_L2 = 1, 2, 4, 8, 16
KNOWN_INCOMPATIBLE = 0x1F
BIT_LAZY_REFCOUNTS = 1
BIT_BITMAPS, BIT_DATA_FILE_RAW = 1, 2
COMPRESSION_TYPES = {0: "zlib", 1: "zstd"}

EXT_END = 0x00000000
EXT_BACKING_FORMAT = 0xE2792ACA
EXT_FEATURE_TABLE = 0x6803F857
EXT_BITMAPS = 0x23852875
EXT_CRYPTO = 0x0537BE77
EXT_DATA_FILE = 0x44415441
MAX_BACKING_FORMAT = 15  # QEMU keeps it in 16 bytes with a NUL
MAX_BITMAPS = 65535

L1_OFFSET_MASK = 0x00FFFFFFFFFFFE00
L1_RESERVED_MASK = 0x7F000000000001FF
L2_OFFSET_MASK = 0x00FFFFFFFFFFFE00
L2_RESERVED_MASK = 0x3F000000000001FE
L2_COMPRESSED = 1 << 62
L2_COPIED = 1 << 63
L2_ZERO = 1
REFTABLE_RESERVED_MASK = 0x1FF

_FIXED = struct.Struct(">IIQIIQIIQQIIQ")  # both versions
_V3 = struct.Struct(">QQQII")
_EXTENSION = struct.Struct(">II")
_BITMAPS = struct.Struct(">IIQQ")
_FEATURE = struct.Struct(">BB46s")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one layer may cost its reader, whatever its bytes say. Above: refused, never attempted."""

    max_virtual_bytes: int = 1 << 50  # largest disk that the fleet's arithmetic and tools are tested for
    max_l1_bytes: int = 32 * MIB  # QEMU's own
    max_reftable_bytes: int = 8 * MIB  # QEMU's own
    max_metadata_bytes: int = 16 * GIB  # L2 tables of one layer: bounds the time, about 1 s per GiB of tables
    max_host_clusters: int = 1 << 29  # one bit each: 64 MiB (32 TiB of 64 KiB clusters)
    max_bitmap_directory_bytes: int = 64 * MIB  # QEMU's own
    max_bitmap_table_bytes: int = 16 * MIB  # of all bitmaps: 1,000 bitmaps of a disk of 100 TiB


@dataclass(frozen=True, slots=True)
class BitmapsExtension:
    """Where the directory of persistent bitmaps is."""

    count: int
    directory_size: int
    directory_offset: int


@dataclass(frozen=True, slots=True)
class Extensions:
    """What the header extensions say. Unknown ones are allowed and skipped, as QEMU does."""

    backing_format: bytes | None = None
    bitmaps: BitmapsExtension | None = None
    feature_names: dict[int, str] = field(default_factory=dict)  # of incompatible bits, as the writer calls them


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a v2 or v3 header after the checks that need nothing but the header."""

    version: int
    backing_offset: int
    backing_length: int
    cluster_bits: int
    virtual_size: int
    crypt_method: int
    l1_entries: int
    l1_offset: int
    reftable_offset: int
    reftable_clusters: int
    snapshots: int
    snapshots_offset: int
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    header_length: int = V2_HEADER_BYTES
    compression_type: int = 0

    @property
    def cluster_size(self) -> int:
        """Bytes of one cluster."""
        return 1 << self.cluster_bits

    @property
    def extended_l2(self) -> bool:
        """Are L2 entries 16 bytes with a sub-cluster bitmap?"""
        return bool(self.incompatible & BIT_EXTENDED_L2)

    @property
    def l2_entries(self) -> int:
        """Entries of one L2 table."""
        return self.cluster_size // (EXTENDED_ENTRY_BYTES if self.extended_l2 else ENTRY_BYTES)

    @property
    def l2_guest_bytes(self) -> int:
        """Guest bytes that one L2 table maps."""
        return self.l2_entries << self.cluster_bits


def feature_names(incompatible: int, compatible: int, autoclear: int) -> list[str]:
    """Names of the feature bits that are set, for people; `incompatible_bit_9` where there is no name."""
    names = []
    for word, known, kind in (
        (incompatible, INCOMPATIBLE, "incompatible"),
        (compatible, COMPATIBLE, "compatible"),
        (autoclear, AUTOCLEAR, "autoclear"),
    ):
        names += [known.get(bit, f"{kind}_bit_{bit}") for bit in range(64) if word >> bit & 1]
    return names


def parse_header(block: bytes | memoryview) -> Header:
    """Parse the first bytes of an object (at least 112, or all it has). Checks shape only, not policy.

    Raises Refused: bad_magic, bad_version, truncated_header, bad_header_length, cluster_bits.
    """
    if len(block) < 8 or block[:4] != MAGIC.to_bytes(4, "big"):
        raise Refused(why.BAD_MAGIC, f"starts with {block[:4].hex() or 'nothing'}, not 514649fb")
    version = int.from_bytes(block[4:8], "big")
    if version not in (2, 3):
        raise Refused(why.BAD_VERSION, f"version {version}")
    needed = V2_HEADER_BYTES if version == 2 else V3_HEADER_BYTES
    if len(block) < needed:
        raise Refused(why.TRUNCATED_HEADER, f"{len(block)} bytes, a v{version} header has {needed}")
    fixed = _FIXED.unpack_from(block)
    _check_cluster_bits(fixed[4])
    extra = _parse_v3(block, 1 << fixed[4]) if version == 3 else {}
    return Header(
        version=version,
        backing_offset=fixed[2],
        backing_length=fixed[3],
        cluster_bits=fixed[4],
        virtual_size=fixed[5],
        crypt_method=fixed[6],
        l1_entries=fixed[7],
        l1_offset=fixed[8],
        reftable_offset=fixed[9],
        reftable_clusters=fixed[10],
        snapshots=fixed[11],
        snapshots_offset=fixed[12],
        **extra,
    )


def _check_cluster_bits(bits: int) -> None:
    if not MIN_CLUSTER_BITS <= bits <= MAX_CLUSTER_BITS:
        raise Refused(why.CLUSTER_BITS, f"cluster_bits {bits}, allowed {MIN_CLUSTER_BITS} to {MAX_CLUSTER_BITS}")


def _parse_v3(block: bytes | memoryview, cluster_size: int) -> dict[str, int]:
    incompatible, compatible, autoclear, refcount_order, length = _V3.unpack_from(block, V2_HEADER_BYTES)
    if length < V3_HEADER_BYTES or length % 8 or length > min(cluster_size, len(block)):
        raise Refused(why.BAD_HEADER_LENGTH, f"header_length {length}")
    return {
        "incompatible": incompatible,
        "compatible": compatible,
        "autoclear": autoclear,
        "refcount_order": refcount_order,
        "header_length": length,
        "compression_type": block[COMPRESSION_TYPE_AT] if length > COMPRESSION_TYPE_AT else 0,
    }


def extensions_end(header: Header) -> int:
    """Where the area of header extensions ends: at the backing name, or with the first cluster."""
    return header.backing_offset or header.cluster_size


def parse_extensions(block: bytes | memoryview, header: Header) -> Extensions:
    """Walk the header extensions in the first cluster.

    `block` holds at least the first cluster, or the whole object. Raises Refused: backing_overrun,
    extension_overrun, extension_invalid, data_file, encrypted.
    """
    end = extensions_end(header)
    if end > header.cluster_size:
        raise Refused(why.BACKING_OVERRUN, f"backing name at {end}, outside the header cluster")
    found = Extensions()
    offset = header.header_length
    # A short object reads as zeros beyond its end, and zeros are the end mark.
    while offset < min(end, len(block)):
        magic, length = _EXTENSION.unpack(bytes(block[offset : offset + 8]).ljust(8, b"\0"))
        offset += 8
        if offset > end or length > end - offset:
            raise Refused(why.EXTENSION_OVERRUN, f"extension {magic:#010x} of {length} bytes at {offset - 8}")
        if magic == EXT_END:
            break
        found = _with_extension(found, magic, bytes(block[offset : offset + length]).ljust(length, b"\0"), header)
        offset += -(-length // 8) * 8
    return found


def _with_extension(found: Extensions, magic: int, body: bytes, header: Header) -> Extensions:
    if magic == EXT_BACKING_FORMAT:
        if len(body) > MAX_BACKING_FORMAT:
            raise Refused(why.EXTENSION_INVALID, f"backing format name of {len(body)} bytes")
        return Extensions(body, found.bitmaps, found.feature_names)
    if magic == EXT_BITMAPS and header.autoclear & BIT_BITMAPS:
        return Extensions(found.backing_format, _parse_bitmaps(body, header), found.feature_names)
    if magic == EXT_FEATURE_TABLE:
        return Extensions(found.backing_format, found.bitmaps, _parse_feature_table(body))
    if magic == EXT_DATA_FILE:
        raise Refused(why.DATA_FILE, "the header names an external data file")
    if magic == EXT_CRYPTO:
        raise Refused(why.ENCRYPTED, "the header has an encryption extension")
    # Bitmaps without their autoclear bit are void (a program that does not know them wrote to the image).
    if magic == EXT_BITMAPS and len(body) != _BITMAPS.size:
        raise Refused(why.EXTENSION_INVALID, f"bitmaps extension of {len(body)} bytes")
    return found


def _parse_bitmaps(body: bytes, header: Header) -> BitmapsExtension:
    if len(body) != _BITMAPS.size:
        raise Refused(why.EXTENSION_INVALID, f"bitmaps extension of {len(body)} bytes")
    count, reserved, size, offset = _BITMAPS.unpack(body)
    if reserved or not 0 < count <= MAX_BITMAPS or offset % header.cluster_size:
        raise Refused(why.EXTENSION_INVALID, f"bitmaps extension: {count} bitmaps, directory at {offset}")
    return BitmapsExtension(count, size, offset)


def _parse_feature_table(body: bytes) -> dict[int, str]:
    names = {}
    for kind, bit, raw in _FEATURE.iter_unpack(body[: len(body) // _FEATURE.size * _FEATURE.size]):
        if kind == 0 and bit < 64:
            text = raw.split(b"\0")[0].decode("ascii", "replace")
            names[bit] = "".join(c if c.isprintable() else "?" for c in text)
    return names
