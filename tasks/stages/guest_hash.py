"""SHA-256 of what a guest reads, and the proof that two images read the same.

Both sides come as their blocks that are not all zeros, in order: of a chain by our own reader, of a raw file by its
bytes. So holes cost no read, and the zeros of a sparse disk are hashed once, not compared.
"""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tasks import descriptors
from tasks.chain.extent import from_rows
from tasks.chain.layer import ExtentKind, LayerFacts
from tasks.errors import Permanent
from tasks.execute.guest import BLOCK_BYTES, GuestView, LocalLayer, whole
from tasks.execute.replica import HeldFile
from tasks.inventory.local import LayerMap
from tasks.units import MIB

Block = tuple[int, bytes]  # index in units of BLOCK_BYTES, content padded with zeros to BLOCK_BYTES
_ZEROS = bytes(4 * MIB)
_READ_BLOCKS = 16


@contextmanager
def chain_blocks(layers: Sequence[tuple[Path, LayerMap]], size: int) -> Iterator[Iterator[Block]]:
    """Guest content of local whole layer files, tip first. Permanent if a compressed cluster is broken."""
    descriptors.allow(len(layers))
    with ExitStack() as opened:
        held = []
        for path, found in layers:
            file = HeldFile(path, path.stat().st_size, whole(path.stat().st_size))
            opened.callback(file.close)
            held.append(LocalLayer(file, found))
        yield GuestView(held, size).blocks()


@contextmanager
def raw_blocks(path: Path) -> Iterator[Iterator[Block]]:
    """Content of a raw file; holes are skipped."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield _raw_blocks(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def raw_map(size: int) -> LayerMap:
    """The map of a raw image: all data."""
    return LayerMap(LayerFacts(status="ok", virtual_size=size), from_rows([(0, size, ExtentKind.DATA, 0, size)]))


def equal_sha256(expected: Iterator[Block], found: Iterator[Block], size: int, progress: Callable[[int], None]) -> str:
    """Hash of the `size` bytes that both sides read as. Permanent, with the guest offset, at the first difference.

    `progress` is told guest bytes.
    """
    digest, at = hashlib.sha256(), 0
    for left, right in itertools.zip_longest(expected, found):
        if left is None or left != right:
            index = min(block[0] for block in (left, right) if block is not None)
            raise Permanent(f"the images differ in the 64 KiB at guest offset {index * BLOCK_BYTES}")
        start = left[0] * BLOCK_BYTES
        body = left[1][: size - start]
        _add_zeros(digest.update, start - at, progress)
        digest.update(body)
        progress(len(body))
        at = start + len(body)
    _add_zeros(digest.update, size - at, progress)
    return digest.hexdigest()


def _add_zeros(update: Callable[[bytes], None], count: int, progress: Callable[[int], None]) -> None:
    while count > 0:
        step = min(count, len(_ZEROS))
        update(_ZEROS[:step] if step < len(_ZEROS) else _ZEROS)
        progress(step)
        count -= step


def _raw_blocks(descriptor: int, size: int) -> Iterator[Block]:
    at = 0
    while at < size:
        try:
            data = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole up to the end
            return
        at = data // BLOCK_BYTES * BLOCK_BYTES
        body = os.pread(descriptor, _READ_BLOCKS * BLOCK_BYTES, at)
        for offset in range(0, len(body), BLOCK_BYTES):
            block = body[offset : offset + BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0")
            if block.count(0) != BLOCK_BYTES:
                yield (at + offset) // BLOCK_BYTES, block
        at += _READ_BLOCKS * BLOCK_BYTES
