"""One host's exporter: export names, chains, and a chain's metadata fetched in parallel at its opening.

QEMU opens a chain layer by layer, with two or more round trips each. With a chain file the first open of any layer
starts fetching every layer's header, L1 and refcount table at once, so that the opens find them in memory. What
the disk's last starts read follows when the chain is open.
"""

from __future__ import annotations

import contextlib
import re
import threading
from functools import partial
from pathlib import Path

from tasks import clock
from tasks.cache.nbd.ahead import read_ahead
from tasks.cache.nbd.blocks import Layer, Reader
from tasks.cache.nbd.chain_file import ChainFile, read_chain_file
from tasks.cache.nbd.metadata import prefetch_metadata
from tasks.cache.nbd.reader import NOBODY, BlockReader, Options
from tasks.cache.nbd.workers import share_out
from tasks.errors import ChainwrightError, NotFound

_EXPORT = re.compile(r"([0-9a-f]{32})(?:/([A-Za-z0-9][A-Za-z0-9._-]{0,199}))?")
_PREFETCH_THREADS = 32


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
        self._prefetched: dict[str, set[str]] = {}  # by disk: the layers, as long as connections are open
        self._readers: dict[str, tuple[Reader, int]] = {}  # by disk: who, and how many connections are open

    def open(self, name: str) -> Export:
        """`<layer_id>` or `<layer_id>/<disk_id>`. NotFound for any other name."""
        match = _EXPORT.fullmatch(name)
        if match is None:
            raise NotFound(f"export {name[:80]!r} is not <layer id> or <layer id>/<disk id>")
        layer_id, disk = match.group(1), match.group(2) or ""
        chain = self._load_chain(disk)
        reader = self._enter(disk) if disk else NOBODY
        self._prefetch_chain(disk, chain.layers, reader.unmarked())
        with self._lock:
            layer = self._layers.setdefault(layer_id, Layer(layer_id))
        if chain.layers and layer_id == chain.layers[-1].layer_id:
            self._chain_is_open(chain, reader)
        return Export(layer, reader)

    def close(self, export: Export) -> None:
        """A connection ended. When a disk's last one ends, its next open is another start."""
        disk = export.reader.disk
        with self._lock:
            if disk in self._readers:
                reader, count = self._readers.pop(disk)
                if count > 1:
                    self._readers[disk] = (reader, count - 1)
                else:
                    self._prefetched.pop(disk, None)  # it may have left the memory when the disk starts again

    def _enter(self, disk: str) -> Reader:
        with self._lock:
            reader, count = self._readers.get(disk) or (Reader(disk, int(clock.now().timestamp())), 0)
            self._readers[disk] = (reader, count + 1)
        return reader

    def _chain_is_open(self, chain: ChainFile, reader: Reader) -> None:
        """Its tip comes last. Not before: ten layers took 0.09 instead of 0.04 s to open beside the read-ahead."""
        with self._lock:
            starts = [(self._layers[one], number) for one, number in chain.starts]
            begun, reader.begun = reader.begun, True
        if not begun:
            reader.ahead.update((one.layer_id, 0) for one in chain.layers)  # a cold header brings its whole slice
            read_ahead(self.blocks, starts, reader)

    def _prefetch_chain(self, disk: str, layers: list[Layer], reader: Reader) -> None:
        """Once per start and layer: a new tip is another chain."""
        with self._lock:
            known = [self._layers.setdefault(layer.layer_id, layer) for layer in layers]
            marked = self._prefetched.setdefault(disk, set()) if known else set()
            fresh = [layer for layer in known if layer.layer_id not in marked]
            marked.update(layer.layer_id for layer in known)
        share_out(fresh, _PREFETCH_THREADS, "prefetch", partial(self._prefetch, reader))

    def _load_chain(self, disk: str) -> ChainFile:
        return read_chain_file(self._chains / f"{disk}.json") if disk and self._chains else ChainFile([], [])

    def _prefetch(self, reader: Reader, layer: Layer) -> bool:
        with contextlib.suppress(ChainwrightError):  # only a hint: QEMU's own read meets the same error and reports it
            prefetch_metadata(self.blocks, layer, reader)
        return True
