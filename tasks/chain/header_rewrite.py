"""Rewrite the backing name in a qcow2 header: the only change that a layer above a merged run needs.

The first cluster holds the fixed header, the header extensions and the backing name, and nothing else (QEMU's
docs/interop/qcow2.txt). It is rebuilt in that order, every extension kept as it was; the rest of the image is not
looked at.
"""

import struct
from collections.abc import Iterator

from tasks.errors import Refused

MAGIC = b"QFI\xfb"
EXT_END = 0
EXT_BACKING_FORMAT = 0xE2792ACA
EXT_FEATURE_NAMES = 0x6803F857
EXT_BITMAPS = 0x23852875
_AUTOCLEAR_BITMAPS = 1
_V2_HEADER_BYTES = 72
_MAX_NAME_BYTES = 1023


def rewrite_backing(first_cluster: bytes, name: str | None, backing_format: str | None) -> bytes:
    """The first cluster with another backing file and format (None: no backing). Same length as before.

    Raises Refused (`header_full`) when the name does not fit and Refused (`bad_header`) on a header that no reader
    should have accepted.
    """
    header_bytes = _header_bytes(first_cluster)
    extensions = [(kind, body) for kind, body in read_extensions(first_cluster) if kind != EXT_BACKING_FORMAT]
    if name is not None and backing_format is not None:
        extensions.insert(0, (EXT_BACKING_FORMAT, backing_format.encode("ascii")))
    encoded = b"" if name is None else name.encode("utf-8")
    if len(encoded) > _MAX_NAME_BYTES:
        raise Refused("header_full", f"backing name of {len(encoded)} bytes: the format allows {_MAX_NAME_BYTES}")
    rebuilt = _assemble(first_cluster[:header_bytes], extensions, encoded)
    if len(rebuilt) > len(first_cluster):  # QEMU itself gives up the (optional) table of feature names first
        extensions = [(kind, body) for kind, body in extensions if kind != EXT_FEATURE_NAMES]
        rebuilt = _assemble(first_cluster[:header_bytes], extensions, encoded)
    if len(rebuilt) > len(first_cluster):
        raise Refused("header_full", f"{len(rebuilt)} bytes of header in a cluster of {len(first_cluster)}")
    return rebuilt.ljust(len(first_cluster), b"\0")


def without_bitmaps(first_cluster: bytes) -> bytes:
    """The first cluster of a layer whose persistent bitmaps are left behind (hazard 10: only where policy allows)."""
    extensions = [(kind, body) for kind, body in read_extensions(first_cluster) if kind != EXT_BITMAPS]
    header_bytes = _header_bytes(first_cluster)
    header = bytearray(first_cluster[:header_bytes])
    if header_bytes >= 104:
        autoclear = struct.unpack_from(">Q", header, 88)[0] & ~_AUTOCLEAR_BITMAPS
        struct.pack_into(">Q", header, 88, autoclear)
    name, _ = read_backing(first_cluster)
    return _assemble(bytes(header), extensions, (name or "").encode()).ljust(len(first_cluster), b"\0")


def read_backing(first_cluster: bytes) -> tuple[str | None, str | None]:
    """The backing name and format as written; the check after a rewrite (hazard 14)."""
    _header_bytes(first_cluster)
    offset, size = struct.unpack_from(">QI", first_cluster, 8)
    if not offset:
        return None, None
    if size > _MAX_NAME_BYTES or offset + size > len(first_cluster):
        raise Refused("bad_header", f"backing name at {offset} of {size} bytes is outside the first cluster")
    formats = [body for kind, body in read_extensions(first_cluster) if kind == EXT_BACKING_FORMAT]
    name = first_cluster[offset : offset + size].decode("utf-8")
    return name, formats[0].decode("ascii") if formats else None


def read_extensions(first_cluster: bytes) -> Iterator[tuple[int, bytes]]:
    """Each header extension as (type, body), the end mark left out."""
    at = _header_bytes(first_cluster)
    while at + 8 <= len(first_cluster):
        kind, length = struct.unpack_from(">II", first_cluster, at)
        if kind == EXT_END:
            return
        body = first_cluster[at + 8 : at + 8 + length]
        if len(body) != length:
            raise Refused("bad_header", f"header extension {kind:#x} of {length} bytes leaves the first cluster")
        yield kind, body
        at += 8 + _align8(length)


def _assemble(header: bytes, extensions: list[tuple[int, bytes]], name: bytes) -> bytes:
    parts = [struct.pack(">II", kind, len(body)) + body.ljust(_align8(len(body)), b"\0") for kind, body in extensions]
    blob = bytearray(header + b"".join(parts) + struct.pack(">II", EXT_END, 0))
    struct.pack_into(">QI", blob, 8, len(blob) if name else 0, len(name))
    return bytes(blob) + name


def _header_bytes(first_cluster: bytes) -> int:
    if len(first_cluster) < _V2_HEADER_BYTES or first_cluster[:4] != MAGIC:
        raise Refused("bad_header", "not a qcow2 header")
    version = struct.unpack_from(">I", first_cluster, 4)[0]
    if version == 2:
        return _V2_HEADER_BYTES
    length = int(struct.unpack_from(">I", first_cluster, 100)[0]) if len(first_cluster) >= 104 else 0
    if version != 3 or length < 104 or length % 8 or length > len(first_cluster):
        raise Refused("bad_header", f"version {version}, header length {length}")
    return length


def _align8(length: int) -> int:
    return (length + 7) & ~7
