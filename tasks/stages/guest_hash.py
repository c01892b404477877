"""SHA-256 of what a guest reads: of a chain by our own reader, of a raw file by its bytes."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tasks.chain.extent import from_rows
from tasks.chain.layer import ExtentKind, LayerFacts
from tasks.execute.guest import BLOCK_BYTES, GuestView, LocalLayer, whole
from tasks.execute.replica import HeldFile
from tasks.inventory.local import LayerMap
from tasks.units import MIB


class Digest(Protocol):
    """The part of hashlib's objects that is used here."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""


def chain_sha256(layers: Sequence[tuple[Path, LayerMap]], size: int, progress: Callable[[int], None]) -> str:
    """Guest content of local whole layer files, tip first, `size` bytes. Permanent if a compressed cluster is broken.

    `progress` is told guest bytes.
    """
    files = [HeldFile(path, path.stat().st_size, whole(path.stat().st_size)) for path, _ in layers]
    try:
        view = GuestView([LocalLayer(file, found) for file, (_, found) in zip(files, layers, strict=True)], size)
        return _hash_blocks(view.blocks(), size, progress)
    finally:
        for file in files:
            file.close()


def raw_sha256(path: Path, progress: Callable[[int], None]) -> str:
    """Hash of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(4 * MIB):
            digest.update(piece)
            progress(len(piece))
    return digest.hexdigest()


def raw_map(size: int) -> LayerMap:
    """The map of a raw image: all data."""
    return LayerMap(LayerFacts(status="ok", virtual_size=size), from_rows([(0, size, ExtentKind.DATA, 0, size)]))


def _hash_blocks(blocks: Iterator[tuple[int, bytes]], size: int, progress: Callable[[int], None]) -> str:
    digest, at = hashlib.sha256(), 0
    for index, block in blocks:
        start = index * BLOCK_BYTES
        _zeros(digest, start - at, progress)
        body = block[: size - start]
        digest.update(body)
        progress(len(body))
        at = start + len(body)
    _zeros(digest, size - at, progress)
    return digest.hexdigest()


def _zeros(digest: Digest, count: int, progress: Callable[[int], None]) -> None:
    while count > 0:
        step = min(count, len(_ZEROS))
        digest.update(_ZEROS[:step] if step < len(_ZEROS) else _ZEROS)
        progress(step)
        count -= step


_ZEROS = bytes(4 * MIB)
