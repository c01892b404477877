"""One host's exporter: export names, chains, and a chain's metadata fetched in parallel at its opening.

QEMU opens a chain layer by layer, with two or more round trips each. With a chain file the first open of any layer
starts fetching every layer's header, L1 and refcount table at once, so that the opens find them in memory.
"""

from __future__ import annotations

import json
import re
import struct
import threading
from pathlib import Path
from typing import Any

from tasks import clock
from tasks.cache.nbd.blocks import Layer, Reader
from tasks.cache.nbd.reader import NOBODY, BlockReader, Options
from tasks.errors import ChainwrightError, NotFound
from tasks.units import KIB, MIB

_EXPORT = re.compile(r"([0-9a-f]{32})(?:/([A-Za-z0-9][A-Za-z0-9._-]{0,199}))?")
_ID = re.compile(r"[0-9a-f]{32}")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_HEADER = struct.Struct(">4sIQIIQIIQQI")  # up to refcount_table_clusters
_MAX_TABLE = 4 * MIB  # a larger table is read when QEMU asks for it
_PREFETCH_THREADS = 32
_FIRST_BYTES = 320 * KIB  # header, refcount table and block, L1 and the first L2 table of most layers: one request


class Export:
    """One open connection's layer."""

    def __init__(self, layer: Layer, reader: Reader) -> None:
        self.layer = layer
        self.reader = reader


class Exporter:
    """Thread-safe. `chains` is a folder of `<disk_id>.json` chain files, or None."""

    def __init__(self, options: Options, chains: Path | None = None) -> None:
        self.blocks = BlockReader(options)
        self._chains = chains
        self._lock = threading.Lock()
        self._layers: dict[str, Layer] = {}
        self._prefetched: set[str] = set()
        self._readers: dict[str, tuple[Reader, int]] = {}  # by disk: who, and how many connections are open

    def open(self, name: str) -> Export:
        """`<layer_id>` or `<layer_id>/<disk_id>`. NotFound for any other name."""
        match = _EXPORT.fullmatch(name)
        if match is None:
            raise NotFound(f"export {name[:80]!r} is not <layer id> or <layer id>/<disk id>")
        layer_id, disk = match.group(1), match.group(2) or ""
        chain = self._load_chain(disk) if disk else []
        reader = self._enter(disk) if disk else NOBODY
        self._prefetch_chain(disk, chain, reader)
        with self._lock:
            layer = self._layers.setdefault(layer_id, Layer(layer_id))
        return Export(layer, reader)

    def close(self, export: Export) -> None:
        """A connection ended. When a disk's last one ends, its next open is another start."""
        disk = export.reader.disk
        with self._lock:
            if disk in self._readers:
                reader, count = self._readers.pop(disk)
                if count > 1:
                    self._readers[disk] = (reader, count - 1)

    def _enter(self, disk: str) -> Reader:
        with self._lock:
            reader, count = self._readers.get(disk) or (Reader(disk, int(clock.now().timestamp())), 0)
            self._readers[disk] = (reader, count + 1)
        return reader

    def _prefetch_chain(self, disk: str, layers: list[Layer], reader: Reader) -> None:
        """Once per disk and chain: a new tip is another chain."""
        with self._lock:
            known = [self._layers.setdefault(layer.layer_id, layer) for layer in layers]
            marks = {f"{disk}/{layer.layer_id}": layer for layer in known}
            fresh = [layer for mark, layer in marks.items() if mark not in self._prefetched]
            self._prefetched.update(marks)
        work = iter(fresh)
        for _ in range(min(_PREFETCH_THREADS, len(fresh))):
            threading.Thread(target=self._prefetch, args=(work, reader), name="prefetch", daemon=True).start()

    def _load_chain(self, disk: str) -> list[Layer]:
        if self._chains is None:
            return []
        try:
            raw = json.loads((self._chains / f"{disk}.json").read_text(encoding="utf-8"))
            return [_layer(one) for one in raw["layers"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotFound(f"chain file of disk {disk}: {error}") from None

    def _prefetch(self, work: Any, reader: Reader) -> None:
        while True:
            with self._lock:
                layer = next(work, None)
            if layer is None:
                return
            try:
                prefetch_metadata(self.blocks, layer, reader)
            except ChainwrightError:
                continue  # only a hint: QEMU's own read meets the same error and reports it


def prefetch_metadata(blocks: BlockReader, layer: Layer, reader: Reader) -> None:
    """Header, L1 and refcount table. The header is a tenant's: what it says only chooses what is fetched early."""
    size = blocks.size(layer, reader)
    head = bytearray(min(size, _FIRST_BYTES))
    blocks.read_into(layer, 0, memoryview(head), reader=reader, keep=True)
    for start, length in metadata_ranges(bytes(head), size):
        blocks.read_into(layer, start, memoryview(bytearray(length)), reader=reader, keep=True)


def metadata_ranges(head: bytes, size: int) -> list[tuple[int, int]]:
    """The tables' `(offset, bytes)` inside an object of `size` bytes; nothing for what is no qcow2 header."""
    if len(head) < _HEADER.size:
        return []
    fields = _HEADER.unpack_from(head)
    magic, cluster_bits, l1_entries, l1_offset, table_offset, table_clusters = (
        fields[0], fields[4], fields[7], fields[8], fields[9], fields[10],
    )  # fmt: skip
    if magic != b"QFI\xfb" or not 9 <= cluster_bits <= 21:
        return []
    tables = [(l1_offset, 8 * l1_entries), (table_offset, table_clusters << cluster_bits)]
    return [(start, length) for start, length in tables if 0 < length <= _MAX_TABLE and start + length <= size]


def _layer(raw: dict[str, Any]) -> Layer:
    """One entry of a chain file."""
    layer_id, region, size, etag = raw["layer_id"], raw.get("region", ""), raw.get("size"), raw.get("etag", "")
    if not isinstance(layer_id, str) or not _ID.fullmatch(layer_id):
        raise ValueError(f"layer_id {layer_id!r}")
    if not isinstance(region, str) or (region and not _REGION.fullmatch(region)):
        raise ValueError(f"region {region!r}")
    if size is not None and (not isinstance(size, int) or size < 0):
        raise ValueError(f"size {size!r}")
    if not isinstance(etag, str):
        raise TypeError(f"etag {etag!r}")
    return Layer(layer_id, region, size, etag)
