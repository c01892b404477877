"""A local sparse copy of a layer that knows which of its bytes it holds.

Every byte is fetched by a ranged GET with `If-Match`: a layer that was replaced under us is an error, never a mixture.
A replica is never handed to QEMU as a plain file unless it is whole: a hole would read as zeros (notes: fails open).
`tasks.qemu.guard` exports it so that a hole is an I/O error.
"""

import os
from pathlib import Path

import numpy as np

from tasks.chain import extent, fetches
from tasks.chain.extent import Extents, Ranges, ranges_of, subtract, union
from tasks.chain.layer import LayerFacts, layer_file_name
from tasks.chain.qcow2_names import NameRules
from tasks.chain.qcow2_reader import Qcow2Reader
from tasks.errors import Permanent, PreconditionFailed, Refused
from tasks.execute.parallel import in_parallel
from tasks.inventory.local import LayerMap
from tasks.plan.metadata import HEADER_BYTES
from tasks.plan.steps import LayerRef
from tasks.store import keys
from tasks.store.base import ObjectStore


class HeldFile:
    """A local, possibly sparse image file and the ranges of it that are really there. Reading a hole is an error."""

    def __init__(self, path: Path, size: int, held: Ranges, flags: int = 0) -> None:
        self.path = path
        self.size = size
        self.held = held
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)

    def close(self) -> None:
        """Give the descriptor back, and with it the space once the work directory is removed. Harmless when done."""
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    def read(self, start: int, length: int) -> bytes:
        """Bytes that are held, cut at the file's end. Permanent if some are not."""
        end = min(start + length, self.size)
        if not self.held.cover(start, end):
            raise Permanent(f"{self.path.name}: bytes [{start}, {end}) are not here")
        return os.pread(self._fd, max(0, end - start), start)


class Replica(HeldFile):
    """See the module."""

    def __init__(self, ref: LayerRef, store: ObjectStore, folder: Path) -> None:
        super().__init__(folder / layer_file_name(ref.layer_id), ref.size_bytes, no_ranges(), os.O_CREAT | os.O_EXCL)
        self.ref = ref
        self.store = store
        self._key = keys.layer(ref.layer_id)
        os.ftruncate(self._fd, ref.size_bytes)

    @property
    def whole(self) -> bool:
        """Is every byte here?"""
        return self.held.total_bytes == self.ref.size_bytes

    def fetch(self, ranges: Ranges) -> None:
        """Bring what is missing of the ranges: coalesced, in parallel. PreconditionFailed if the layer changed."""
        missing = subtract(fetches.clip(ranges, self.ref.size_bytes), self.held)
        wanted = fetches.clip(fetches.coalesce(missing), self.ref.size_bytes)
        requests = fetches.requests(wanted)
        in_parallel(self._fetch_one, requests)
        self.held = union(self.held, wanted)

    def fetch_whole(self) -> None:
        """Bring every byte."""
        self.fetch(one_range(0, self.ref.size_bytes))

    def _fetch_one(self, request: tuple[int, int]) -> None:
        start, length = request
        body = self.store.get_range(self._key, start, length, self.ref.etag)
        if len(body) != length:
            raise PreconditionFailed(f"layer {self.ref.layer_id}: {len(body)} of {length} bytes at {start}")
        # What is held already may have been changed since (a top that QEMU wrote to): never overwrite it.
        for low, high in subtract(one_range(start, start + length), self.held).pairs():
            self._write(low, memoryview(body)[low - start : high - start])

    def _write(self, start: int, body: memoryview) -> None:
        done = 0
        while done < len(body):
            done += os.pwrite(self._fd, body[done:], start + done)

    def put(self, start: int, body: bytes) -> None:
        """Change local bytes; they count as held."""
        self._write(start, memoryview(body))
        self.held = union(self.held, one_range(start, start + len(body)))

    def adopt(self, written: Ranges, size: int) -> None:
        """The file was written to by QEMU and is `size` bytes long now. What is new and unwritten reads as zero."""
        os.ftruncate(self._fd, size)
        self.held = fetches.clip(union(self.held, written, one_range(self.size, max(size, self.size))), size)
        self.size = size


def read_metadata(replica: Replica, rules: NameRules) -> LayerMap:
    """Header, tables and extents of the layer, fetched into the replica as the reader asks for them.

    Refused, with the layer's id, if the reader does not accept it.
    """
    reader = Qcow2Reader(replica.ref.size_bytes, rules, first_read_bytes=HEADER_BYTES)
    parts = []
    while reader.wants:
        parts += _feed(reader, replica)
    return LayerMap(_accepted(reader, replica), extent.concat(parts))


def read_header(replica: Replica, rules: NameRules) -> LayerFacts:
    """What the header alone says, its extensions and the backing name included. Refused like `read_metadata`."""
    reader = Qcow2Reader(replica.ref.size_bytes, rules, first_read_bytes=HEADER_BYTES)
    while reader.wants and not reader.header_accepted:
        _feed(reader, replica)
    return _accepted(reader, replica)


def _feed(reader: Qcow2Reader, replica: Replica) -> list[Extents]:
    wants = reader.wants
    starts = np.array([wanted.start for wanted in wants], np.int64)
    replica.fetch(ranges_of(starts, np.array([wanted.end for wanted in wants], np.int64)))
    return reader.feed([replica.read(w.start, w.length) for w in wants])


def _accepted(reader: Qcow2Reader, replica: Replica) -> LayerFacts:
    facts = reader.facts
    if facts.status != "ok":
        raise Refused(facts.reason or "unreadable", f"layer {replica.ref.layer_id}: {facts.detail}")
    return facts


def no_ranges() -> Ranges:
    """Nothing."""
    return ranges_of(np.empty(0, np.int64), np.empty(0, np.int64))


def one_range(start: int, end: int) -> Ranges:
    """`[start, end)`."""
    return ranges_of(np.array([start], np.int64), np.array([end], np.int64))
