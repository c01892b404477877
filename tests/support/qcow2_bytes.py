"""Tiny qcow2 images made in memory, without QEMU: for scans of thousands of layers and for single broken fields.

What they describe is valid: QEMU's own check calls them clean (tests/integration/inventory has the proof).
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ZERO, ZERO_ALLOCATED, DATA = "zero", "zero_allocated", "data"
COPIED = 1 << 63


@dataclass(frozen=True)
class Image:
    """What to build. `clusters` maps guest cluster numbers to a kind."""

    clusters: Mapping[int, str]
    virtual_size: int = 1 << 20
    cluster_bits: int = 9
    backing: str | None = None
    backing_format: str | None = "qcow2"
    fill: int = 0xA5


def build(image: Image) -> bytes:
    """The image's bytes: header, refcount table, refcount blocks, L1, then per L2 table its table and data."""
    size = 1 << image.cluster_bits
    per_l2 = size // 8
    l1_entries = -(-image.virtual_size // (size * per_l2))
    tables = sorted({number // per_l2 for number in image.clusters})
    stored = [number for number in sorted(image.clusters) if image.clusters[number] != ZERO]
    l1_clusters = max(1, -(-l1_entries * 8 // size))
    used = 1 + 1 + l1_clusters + len(tables) + len(stored)
    blocks = 1
    while blocks * (size // 2) < used + blocks:
        blocks += 1
    total = used + blocks
    body = bytearray(total * size)
    place = {"reftable": 1, "l1": 2 + blocks}
    cursor = place["l1"] + l1_clusters
    l2_at: dict[int, int] = {}
    for table in tables:
        l2_at[table] = cursor
        cursor += 1
        for number in [n for n in stored if n // per_l2 == table]:
            body[cursor * size : (cursor + 1) * size] = bytes([image.fill]) * size
            _put(body, l2_at[table] * size + number % per_l2 * 8, _entry(image.clusters[number], cursor * size))
            cursor += 1
    for number, kind in image.clusters.items():
        if kind == ZERO:
            _put(body, l2_at[number // per_l2] * size + number % per_l2 * 8, 1)
    for table, at in l2_at.items():
        _put(body, place["l1"] * size + table * 8, at * size | COPIED)
    for block in range(blocks):
        _put(body, size + block * 8, (2 + block) * size)
    struct.pack_into(f">{total}H", body, 2 * size, *[1] * total)
    body[: len(_header(image, l1_entries, place["l1"] * size, size))] = _header(
        image, l1_entries, place["l1"] * size, size
    )
    return bytes(body)


def _entry(kind: str, offset: int) -> int:
    return offset | COPIED | (1 if kind == ZERO_ALLOCATED else 0)


def _put(body: bytearray, at: int, value: int) -> None:
    struct.pack_into(">Q", body, at, value)


def _header(image: Image, l1_entries: int, l1_offset: int, size: int) -> bytes:
    extensions = b""
    if image.backing and image.backing_format:
        name = image.backing_format.encode()
        extensions += struct.pack(">II", 0xE2792ACA, len(name)) + name.ljust(-(-len(name) // 8) * 8, b"\0")
    extensions += bytes(8)
    backing = (image.backing or "").encode()
    at = 112 + len(extensions) if backing else 0
    fixed = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        3,
        at,
        len(backing),
        image.cluster_bits,
        image.virtual_size,
        0,
        l1_entries,
        l1_offset,
        size,
        1,
        0,
        0,
    )
    return fixed + struct.pack(">QQQII", 0, 0, 0, 4, 112) + bytes(8) + extensions + backing


def patched(image: bytes, *changes: tuple[int, bytes]) -> bytes:
    """A copy with bytes replaced at offsets."""
    body = bytearray(image)
    for at, new in changes:
        body[at : at + len(new)] = new
    return bytes(body)


def be32(value: int) -> bytes:
    """4 bytes, big-endian."""
    return struct.pack(">I", value)


def be64(value: int) -> bytes:
    """8 bytes, big-endian."""
    return struct.pack(">Q", value)


def extents_in_chain(number: int) -> list[tuple[int, int, int, int, int]]:
    """The rows of layer `number` of `chain`."""
    first = 512 * 5  # after header, refcount table, refcount block, L1 table, L2 table
    another_table = (number + 2) // 64 != number // 64
    return [
        (number * 512, 512, 0, first, 512),
        ((number + 1) * 512, 512, 1, -1, 0),
        ((number + 2) * 512, 512, 2, first + 512 + 512 * another_table, 512),
    ]


def chain(count: int, names: Sequence[str], **options: int) -> dict[str, bytes]:
    """`count` layers by file name, each on the one before; layer n holds clusters n to n + 2."""
    return {
        name: build(
            Image({n: DATA, n + 1: ZERO, n + 2: ZERO_ALLOCATED}, backing=names[n - 1] if n else None, fill=n % 251 + 1)
        )
        for n, name in enumerate(names[:count])
    }
