"""Mutated qcow2 images: seeds from real ones, changes where the metadata is, values at the edges."""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.chain import qcow2_layout as layout
from tests.support import qemu_images
from tests.support.qcow2_bytes import DATA, ZERO, ZERO_ALLOCATED, Image, build, patched

SEED_BYTES = 600_000  # larger ones are left out: the time goes into the number of mutants
_OFFSETS = struct.Struct(">Q")
_HEADER_FIELDS = [(at, 4) for at in (0, 4, 16, 20, 32, 36, 56, 60, 96, 100, 112, 116)]
_HEADER_FIELDS += [(at, 8) for at in (8, 24, 40, 48, 64, 72, 80, 88)] + [(104, 1)]


@dataclass(frozen=True)
class Seed:
    """A sound image and where its 8-byte entries are."""

    image: bytes
    entries: tuple[int, ...]  # offsets of L1, refcount table and L2 entries, used ones over-represented


def real_seeds(folder: Path, count: int, seed: int) -> list[Seed]:
    """Small images made by QEMU with random options."""
    rng = random.Random(seed)
    found: list[Seed] = []
    while len(found) < count:
        recipe = qemu_images.random_recipe(rng)
        path = qemu_images.make(recipe, folder, "seed.qcow2")
        if path.stat().st_size <= SEED_BYTES:
            found.append(seed_of(path.read_bytes()))
        for file in folder.iterdir():
            file.unlink()
    return found


def built_seeds() -> list[Seed]:
    """Images made in memory."""
    clusters = {0: DATA, 1: DATA, 3: ZERO, 5: ZERO_ALLOCATED, 64: DATA, 130: ZERO, 131: DATA}
    return [
        seed_of(build(Image(clusters, virtual_size=1 << 17))),
        seed_of(build(Image(clusters, virtual_size=1 << 20, cluster_bits=12, backing="base.qcow2"))),
    ]


def seed_of(image: bytes) -> Seed:
    """Find the entries."""
    header = layout.parse_header(image[:4096])
    l1 = [header.l1_offset + 8 * n for n in range(header.l1_entries)]
    entries = [*l1[:64], *range(header.reftable_offset, header.reftable_offset + 64, 8)]
    for at in l1:
        table = _word(image, at) & layout.L1_OFFSET_MASK
        if table:
            inside = range(table, min(table + header.cluster_size, len(image) - 7), 8)
            used = [offset for offset in inside if _word(image, offset)]
            entries += [at, *used[:200], *inside[:40]]
    bitmaps = layout.parse_extensions(image[: header.cluster_size], header).bitmaps
    if bitmaps:
        directory = range(bitmaps.directory_offset, bitmaps.directory_offset + bitmaps.directory_size, 8)
        table = _word(image, bitmaps.directory_offset)
        entries += [*directory, *range(header.header_length, header.header_length + 400, 8)] * 3 + [table] * 20
    return Seed(image, tuple(offset for offset in entries if offset + 8 <= len(image)))


def mutate(rng: random.Random, seed: Seed) -> bytes:
    """One to three changes."""
    image = seed.image
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if len(image) < 8:
            break
        image = rng.choice(_CHANGES)(rng, image, seed)
    return image


def _word(image: bytes, at: int) -> int:
    value: int = _OFFSETS.unpack_from(image, at)[0]
    return value


def _edge(rng: random.Random, image: bytes) -> int:
    """A 64-bit value worth trying."""
    cluster = 1 << (image[23] % 22) if len(image) > 23 else 512
    return rng.choice(
        [
            0,
            1,
            rng.randrange(64),
            1 << rng.randrange(64),
            (1 << 64) - 1 - rng.randrange(600),
            len(image) + rng.choice([-cluster, -512, -1, 0, 1, 512, cluster]),
            rng.randrange(-(-len(image) // cluster) + 2) * cluster,
            rng.randrange(-(-len(image) // cluster) + 2) * cluster | 1 << 63,
            rng.randrange(len(image) + 1) | 1 << 62,
            rng.getrandbits(64),
        ]
    ) % (1 << 64)


def _header_field(rng: random.Random, image: bytes, seed: Seed) -> bytes:
    at, size = rng.choice(_HEADER_FIELDS)
    return patched(image, (at, (_edge(rng, image) % (1 << 8 * size)).to_bytes(size, "big")))[: len(image)]


def _header_bits(rng: random.Random, image: bytes, seed: Seed) -> bytes:
    at = rng.randrange(min(len(image), 512))
    return patched(image, (at, bytes([image[at] ^ 1 << rng.randrange(8)])))


def _entry(rng: random.Random, image: bytes, seed: Seed) -> bytes:
    at = rng.choice(seed.entries)
    return patched(image, (at, _OFFSETS.pack(_edge(rng, image)))) if at + 8 <= len(image) else image


def _entry_bit(rng: random.Random, image: bytes, seed: Seed) -> bytes:
    at = rng.choice(seed.entries)
    if at + 8 > len(image):
        return image
    return patched(image, (at, _OFFSETS.pack(_word(image, at) ^ 1 << rng.randrange(64))))


def _copy_entry(rng: random.Random, image: bytes, seed: Seed) -> bytes:
    one, other = rng.choice(seed.entries), rng.choice(seed.entries)
    if max(one, other) + 8 > len(image):
        return image
    return patched(image, (one, image[other : other + 8]))


def _cut(rng: random.Random, image: bytes, seed: Seed) -> bytes:
    return image[: rng.choice([rng.randrange(len(image)), len(image) - rng.randrange(1, 600), rng.randrange(120)])]


def _grow(rng: random.Random, image: bytes, seed: Seed) -> bytes:
    return image + bytes(rng.choice([1, 511, 512, 65536]))


def _noise(rng: random.Random, image: bytes, seed: Seed) -> bytes:
    at = rng.randrange(len(image))
    return patched(image, (at, rng.randbytes(rng.randrange(1, 40))))[: len(image)]


_CHANGES: list[Callable[[random.Random, bytes, Seed], bytes]] = [
    _header_field,
    _header_field,
    _header_bits,
    _entry,
    _entry,
    _entry_bit,
    _entry_bit,
    _copy_entry,
    _cut,
    _grow,
    _noise,
]
