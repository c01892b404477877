"""Blocks of layers in the exporter's memory: a bounded least-recently-used store, and fetches on their way."""

from __future__ import annotations

import threading
from collections import OrderedDict

from tasks import clock
from tasks.errors import Permanent, Transient
from tasks.units import KIB, SLICE_BYTES

BLOCK_BYTES = 64 * KIB
BLOCKS_PER_SLICE = SLICE_BYTES // BLOCK_BYTES


BOOT_SECONDS = 300  # reads of a start's first minutes are marked: they make the boot trace


class Reader:
    """On whose behalf the cache is asked: a disk, and when its virtual machine opened it (Unix seconds).

    Reads are marked as a start's once a header was read: QEMU reads it when it opens a layer, and not when it connects
    again below a running VM, because the exporter was restarted.

    `ahead`: (layer id, slice) that may have been fetched before it asked, and that it has not used yet.
    """

    def __init__(self, disk: str = "", started: int | None = None) -> None:
        self.disk = disk
        self.ahead: set[tuple[str, int]] = set()
        self.begun = False  # was its read-ahead begun?
        self._started = started
        self._opens = False
        self._until = clock.monotonic() + BOOT_SECONDS

    def reads_header(self) -> None:
        """A layer is being opened."""
        self._opens = True

    def unmarked(self) -> Reader:
        """For what is fetched before the guest asks: the boot trace is of what it asks for."""
        return Reader(self.disk)

    def headers(self) -> str:
        """For the cache's log."""
        text = f"X-Chainwright-Disk: {self.disk}\r\n" if self.disk else ""
        if self._opens and self._started is not None and clock.monotonic() < self._until:
            text += f"X-Chainwright-Start: {self._started}\r\n"
        return text


class Layer:
    """What is known of a layer. Size and ETag are learnt from the first answer if nobody said them before."""

    def __init__(self, layer_id: str, region: str = "", size: int | None = None, etag: str = "") -> None:
        self.layer_id = layer_id
        self.region = region
        self.size = size
        self.etag = etag
        self.answered = False

    @property
    def path(self) -> str:
        """In the cache: the form with the region if it is known."""
        return f"/{self.region}/layers/{self.layer_id}.qcow2" if self.region else f"/layers/{self.layer_id}.qcow2"

    @property
    def cached_path(self) -> str:
        """The form that never asks a store."""
        return f"/cached{self.path}"

    def slice_blocks(self, number: int) -> range:
        """Numbers of the blocks of a slice, up to the layer's end if that is known."""
        first, end = number * BLOCKS_PER_SLICE, (number + 1) * BLOCKS_PER_SLICE
        return range(first, end if self.size is None else min(end, -(-self.size // BLOCK_BYTES)))

    def learn(self, total: int, etag: str) -> None:
        """Every answer must be of one and the same object. Permanent if it is another."""
        self.size = total if self.size is None else self.size
        self.etag = self.etag or etag
        if self.size != total:
            raise Permanent(f"layer {self.layer_id}: {total} bytes, expected {self.size}")
        if etag and self.etag != etag:
            raise Permanent(f"layer {self.layer_id}: ETag {etag}, expected {self.etag}: the object was replaced")
        self.answered = True


class Fetch:
    """Blocks `[first, end)` of one layer on their way; many readers may wait for it."""

    def __init__(self, layer: Layer, first: int, end: int, reader: Reader, *, keep: bool = False) -> None:
        self.layer = layer
        self.first = first
        self.end = end
        self.reader = reader
        self.keep = keep  # metadata of a chain: not evicted by data
        self.wanted = (first, end)
        self._blocks: dict[int, bytes] = {}
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def put(self, number: int, block: bytes) -> None:
        """A block has arrived."""
        with self._changed:
            self._blocks[number] = block
            self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """The blocks that have not arrived never will."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def next_missing(self) -> int:
        """The first block that has not arrived; `end` if all have."""
        return next((number for number in range(self.first, self.end) if number not in self._blocks), self.end)

    def wait(self, number: int, deadline: float) -> bytes:
        """The block; raises what the fetch failed with, Transient when the time is over."""
        with self._changed:
            while number not in self._blocks:
                if self._error is not None:
                    raise self._error
                left = deadline - clock.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise Transient(f"layer {self.layer.layer_id}: block {number} did not arrive in time")
            return self._blocks[number]


class BlockStore:
    """Least recently used blocks, plus a part for what data must not push out. Callers hold their own lock.

    Both are bounded. What is pushed out of the second by its like (chains that were opened later) goes to the first.
    """

    def __init__(self, capacity_bytes: int, kept_bytes: int) -> None:
        self._capacity = max(1, capacity_bytes // BLOCK_BYTES)
        self._kept_capacity = kept_bytes // BLOCK_BYTES
        self._recent: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def get(self, key: tuple[str, int]) -> bytes | None:
        """The block, now the most recent one; None if it is not here."""
        for part in (self._kept, self._recent):
            block = part.get(key)
            if block is not None:
                part.move_to_end(key)
                return block
        return None

    def keeps(self, key: tuple[str, int]) -> bool:
        """Is the block here, in the part that is kept?"""
        return key in self._kept

    def put(self, key: tuple[str, int], block: bytes, *, keep: bool) -> None:
        """Add a block; the oldest ones go when there are too many."""
        if keep and self._kept_capacity:
            self._kept[key] = block
            if len(self._kept) <= self._kept_capacity:
                return
            key, block = self._kept.popitem(last=False)
        self._recent[key] = block
        self._recent.move_to_end(key)
        while len(self._recent) > self._capacity:
            self._recent.popitem(last=False)
