"""The guest view of a chain, read from local files by our own map: the proof's reader, independent of QEMU.

Content is hashed by blocks of 64 KiB; a block of zeros counts the same whether it is stored, a zero cluster or absent.
Every read goes through `HeldFile.read`, so a byte that was never fetched is an error.
"""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tasks.chain.extent import Ranges, intersect, ranges_of
from tasks.chain.layer import ExtentKind
from tasks.chain.visible import LayerView, Visible, resolve
from tasks.errors import Permanent
from tasks.execute.replica import HeldFile, one_range
from tasks.inventory.local import LayerMap

BLOCK_BYTES = 64 << 10
_DEFLATE_WINDOW = -12  # raw deflate, 4 KiB window: what QEMU writes and reads


@dataclass(frozen=True, slots=True, eq=False)
class LocalLayer:
    """A layer's file here, and its map."""

    file: HeldFile
    map: LayerMap

    @property
    def view(self) -> LayerView:
        """For `resolve`."""
        return LayerView(self.map.extents, self.map.facts.virtual_size)


class GuestView:
    """What a guest would read through these layers, top first; below the last one everything reads as zero."""

    def __init__(self, layers: Sequence[LocalLayer], size: int | None = None) -> None:
        self._layers = layers
        self.pieces = resolve([layer.view for layer in layers], size)
        self._cluster: tuple[tuple[int, int], bytes] | None = None  # the last one inflated

    def stored(self) -> Visible:
        """The pieces that have bytes in a file."""
        kind = self.pieces.kind
        return self.pieces.where((kind == ExtentKind.DATA) | (kind == ExtentKind.COMPRESSED))

    def sha256(self, ranges: Ranges) -> str:
        """Hash of the content of the guest ranges, zeros left out by blocks."""
        digest = hashlib.sha256()
        for index, block in self._blocks(ranges):
            digest.update(index.to_bytes(8, "big"))
            digest.update(block)
        return digest.hexdigest()

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """(index, content) of every block of BLOCK_BYTES that is not all zeros, in order."""
        return self._blocks(whole(int(self.pieces.length.sum())))

    def _blocks(self, ranges: Ranges) -> Iterator[tuple[int, bytes]]:
        """(index, content) of each block that is not all zeros; what is outside the ranges counts as zero."""
        stored = self.stored()
        ends = stored.start + stored.length
        pending: dict[int, bytearray] = {}
        for start, end in intersect(stored.ranges(), ranges).pairs():
            first = int(np.searchsorted(ends, start, side="right"))
            for row in range(first, int(np.searchsorted(stored.start, end, side="left"))):
                for offset, body in self._content(stored, row, start, end):
                    yield from _emit(pending, offset, body)
        yield from _flush(pending)

    def _content(self, stored: Visible, row: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Bytes of one piece inside [start, end), in bites."""
        begin, length = int(stored.start[row]), int(stored.length[row])
        low, high = max(begin, start), min(begin + length, end)
        for at in range(low, high, 16 * BLOCK_BYTES):
            yield at, self._read(stored, row, at, min(16 * BLOCK_BYTES, high - at))

    def _read(self, stored: Visible, row: int, at: int, length: int) -> bytes:
        layer = self._layers[int(stored.owner[row])]
        host = int(stored.host_offset[row])
        if stored.kind[row] == ExtentKind.DATA:
            inside = at - int(stored.start[row])
            have = min(length, int(stored.host_length[row]) - inside)
            return layer.file.read(host + inside, have).ljust(length, b"\0") if have > 0 else bytes(length)
        inside = at - int(stored.extent_start[row])
        return self._inflated(int(stored.owner[row]), host, int(stored.host_length[row]))[inside : inside + length]

    def _inflated(self, owner: int, host: int, stored_length: int) -> bytes:
        if self._cluster is None or self._cluster[0] != (owner, host):
            layer = self._layers[owner]
            raw = layer.file.read(host, stored_length)
            facts = layer.map.facts
            self._cluster = ((owner, host), inflate(raw, facts.compression_type, facts.cluster_size))
        return self._cluster[1]


def same_content(before: GuestView, after: GuestView, ranges: Ranges) -> str:
    """The hash of the ranges through both views, read side by side. Permanent if they differ."""
    with ThreadPoolExecutor(2) as pool:
        old, new = list(pool.map(GuestView.sha256, (before, after), (ranges, ranges)))
    if old != new:
        raise Permanent(f"content of {ranges.total_bytes} bytes differs: {old} became {new}")
    return old


def inflate(raw: bytes, compression: str, cluster_size: int) -> bytes:
    """One compressed cluster. Permanent if it does not give exactly a cluster."""
    try:
        if compression == "zlib":
            body = zlib.decompressobj(_DEFLATE_WINDOW).decompress(raw, cluster_size)
        else:
            with pa.CompressedInputStream(pa.BufferReader(raw), "zstd") as stream:
                body = stream.read(cluster_size)
    except (zlib.error, OSError) as error:
        raise Permanent(f"compressed cluster: {error}") from None
    if len(body) != cluster_size:
        raise Permanent(f"compressed cluster gives {len(body)} bytes of {cluster_size}")
    return body


def whole(size: int) -> Ranges:
    """The whole guest range."""
    return one_range(0, size)


def ranges_where(pieces: Visible, mask: np.ndarray) -> Ranges:
    """Guest ranges of the pieces that the mask names."""
    chosen = pieces.where(mask)
    return ranges_of(chosen.start, chosen.start + chosen.length)


def _emit(pending: dict[int, bytearray], offset: int, body: bytes) -> Iterator[tuple[int, bytes]]:
    """Put the bytes into their blocks; blocks before the current one are complete, since pieces come in order."""
    done = 0
    while done < len(body):
        index, inside = divmod(offset + done, BLOCK_BYTES)
        for old in [number for number in pending if number < index]:
            yield from _finished(old, pending.pop(old))
        block = pending.setdefault(index, bytearray(BLOCK_BYTES))
        take = min(BLOCK_BYTES - inside, len(body) - done)
        block[inside : inside + take] = body[done : done + take]
        done += take


def _flush(pending: dict[int, bytearray]) -> Iterator[tuple[int, bytes]]:
    for index in sorted(pending):
        yield from _finished(index, pending[index])


def _finished(index: int, block: bytearray) -> Iterator[tuple[int, bytes]]:
    if block.count(0) != len(block):
        yield index, bytes(block)
