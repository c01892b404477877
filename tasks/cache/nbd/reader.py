"""Reads layers through the regional cache, by blocks, for many threads.

A block that the cache has costs one small request. What it does not have is fetched as a whole slice, because the cache
itself fetches no less, and handed out block by block while it arrives. One fetch serves everybody who wants its blocks.

The retry loop is here and not in `tasks.retry`, because the system's Python has no tenacity.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
from functools import partial

from tasks import clock
from tasks.cache.nbd.blocks import BLOCK_BYTES, BLOCKS_PER_SLICE, BlockStore, Fetch, Layer, Reader
from tasks.cache.nbd.http_range import BadAnswer, NotCached, RangeConnection
from tasks.cache.nbd.workers import DEMAND, NOTE, PREFETCH, Workers
from tasks.errors import ChainwrightError, NotFound, Transient
from tasks.units import MIB, SLICE_BYTES

_CACHED = "cached"  # the form that never asks a store
# After so many bad answers: ask again; have the cache replace what it holds; go past the cache, whose disk may be full.
# Then the error goes to the guest: the cache and the store both answer nonsense.
_AFTER_BAD = ("", "refetch", "none", "none", "none", "none")
_READAHEAD_BLOCKS = 16
NOBODY = Reader()


class Options:
    """Of one exporter process."""

    def __init__(
        self,
        url: str,
        client: str = "guest",
        memory_bytes: int = 128 * MIB,
        threads: int = 32,
        deadline_seconds: float = 60.0,
        timeout_seconds: float = 15.0,
    ) -> None:
        self.url = url
        self.client = client
        self.memory_bytes = memory_bytes
        self.threads = threads
        self.deadline_seconds = deadline_seconds  # one read of a guest ends by then, with data or an error
        self.timeout_seconds = timeout_seconds  # of silence on a connection


class BlockReader:
    """Thread-safe."""

    def __init__(self, options: Options) -> None:
        """Permanent: the URL is none."""
        self._options = options
        RangeConnection(options.url, options.client)
        self._lock = threading.Lock()
        self._store = BlockStore(options.memory_bytes, options.memory_bytes)
        self._pending: dict[tuple[str, int], Fetch] = {}
        self._slices: dict[tuple[str, int], Fetch] = {}
        self._workers = Workers(
            options.threads, lambda: RangeConnection(options.url, options.client, options.timeout_seconds)
        )

    @property
    def memory_bytes(self) -> int:
        """Of layers, at most; as much again of chains' metadata."""
        return self._options.memory_bytes

    def size(self, layer: Layer, reader: Reader = NOBODY) -> int:
        """Bytes of the layer; asks for its first block if nobody knows."""
        if layer.size is None:
            self._collect(layer, 0, 1, reader, keep=True)
        assert layer.size is not None
        return layer.size

    def read_into(
        self, layer: Layer, offset: int, view: memoryview, *, reader: Reader = NOBODY, keep: bool = False
    ) -> None:
        """Fill the view with the layer's bytes from `offset`. Raises NotFound, Transient (out of time), Permanent."""
        if offset + len(view) > self.size(layer, reader):
            raise NotFound(f"layer {layer.layer_id}: {offset}+{len(view)} is behind the end at {layer.size}")
        first, end = offset // BLOCK_BYTES, -(-(offset + len(view)) // BLOCK_BYTES)
        blocks = self._collect(layer, first, end, reader, keep=keep)
        done = 0
        for number, block in zip(range(first, end), blocks):  # noqa: B905 - Python 3.9 has no strict
            skip = max(0, offset - number * BLOCK_BYTES)
            piece = memoryview(block)[skip : skip + len(view) - done]
            view[done : done + len(piece)] = piece
            done += len(piece)
        if reader.ahead and not keep:
            self._note_uses(layer, range(first, end), reader)

    def fetch_slice(self, layer: Layer, number: int, reader: Reader) -> None:
        """Into memory, as data that others may push out; returns when all of it is there. Raises as `read_into`."""
        size = self.size(layer, reader)
        blocks = layer.slice_blocks(number)
        if not blocks:
            raise NotFound(f"layer {layer.layer_id}: slice {number} is behind the end at {size}")
        self._collect(layer, blocks.start, blocks.stop, reader, keep=False)

    def is_in_cache_only(self, layer: Layer, number: int, reader: Reader) -> bool:
        """Does the cache have a slice of which memory lacks the end? Asks for one byte; False if nobody answers."""
        self.size(layer, reader)  # known from here on
        with self._lock:
            if self._store.get((layer.layer_id, layer.slice_blocks(number).stop - 1)) is not None:
                return False
        answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

        def ask(connection: RangeConnection) -> None:
            found = False
            try:
                found = self._ask_one_byte(layer, number, reader, connection)
            finally:
                answers.put(found)

        self._workers.submit(PREFETCH, ask)
        return answers.get()

    def _collect(self, layer: Layer, first: int, end: int, reader: Reader, *, keep: bool) -> list[bytes]:
        deadline = clock.monotonic() + self._options.deadline_seconds
        claims = self._claim(layer, first, end, reader, keep=keep)
        return [
            claim.wait(number, deadline) if isinstance(claim, Fetch) else claim
            for number, claim in zip(range(first, end), claims)  # noqa: B905
        ]

    def _claim(self, layer: Layer, first: int, end: int, reader: Reader, *, keep: bool) -> list[bytes | Fetch]:
        """For each block: itself, or the fetch that will bring it (a new one where nobody had asked)."""
        claims: list[bytes | Fetch] = []
        new: list[Fetch] = []
        with self._lock:
            for number in range(first, end):
                key = (layer.layer_id, number)
                claim = self._store.get(key) or self._pending.get(key)
                if claim is None:
                    claim = self._begin(layer, number, new, reader, keep=keep)
                claims.append(claim)
            if new and not keep:
                self._read_ahead(new[-1])
        for fetch in new:
            self._workers.submit(PREFETCH if fetch.keep else DEMAND, partial(self._bring, fetch))
        return claims

    def _begin(self, layer: Layer, number: int, new: list[Fetch], reader: Reader, *, keep: bool) -> Fetch:
        """Extend the last new fetch by this block, or start another: a fetch never crosses a slice."""
        last = new[-1] if new else None
        if last is not None and last.end == number and number % BLOCKS_PER_SLICE:
            last.end += 1
        else:
            last = Fetch(layer, number, number + 1, reader, keep=keep)
            new.append(last)
        last.wanted = (last.first, last.end)
        self._pending[(layer.layer_id, number)] = last
        return last

    def _read_ahead(self, fetch: Fetch) -> None:
        """A reader that comes from the block before will want the next ones: take them along, within the slice."""
        if self._store.get((fetch.layer.layer_id, fetch.first - 1)) is None:
            return
        limit = min(fetch.end + _READAHEAD_BLOCKS, fetch.layer.slice_blocks(fetch.first // BLOCKS_PER_SLICE).stop)
        while fetch.end < limit and self._free(fetch.layer.layer_id, fetch.end):
            self._pending[(fetch.layer.layer_id, fetch.end)] = fetch
            fetch.end += 1

    def _free(self, layer_id: str, number: int) -> bool:
        return (layer_id, number) not in self._pending and self._store.get((layer_id, number)) is None

    def _bring(self, fetch: Fetch, connection: RangeConnection) -> None:
        try:
            self._run(fetch, connection)
        except Exception as error:  # noqa: BLE001 - whoever waits must learn of it, whatever it is
            fetch.fail(error if isinstance(error, ChainwrightError) else Transient(f"{type(error).__name__}: {error}"))
        finally:
            self._end(fetch)

    def _end(self, fetch: Fetch) -> None:
        with self._lock:
            for number in range(fetch.first, fetch.end):
                key = (fetch.layer.layer_id, number)
                if self._pending.get(key) is fetch:
                    del self._pending[key]
            slice_key = (fetch.layer.layer_id, fetch.first // BLOCKS_PER_SLICE)
            if self._slices.get(slice_key) is fetch:
                del self._slices[slice_key]

    def _run(self, fetch: Fetch, connection: RangeConnection) -> None:
        """Try until the blocks are here, an error is final, or the time is over."""
        deadline = clock.monotonic() + self._options.deadline_seconds
        mode, pause, bad = _CACHED, 0.05, 0
        while True:
            try:
                return self._attempt(fetch, connection, mode, deadline)
            except NotCached:
                if mode != _CACHED:
                    raise
                if self._arrived_meanwhile(fetch):
                    return None
                leader = self._lead(fetch)
                if leader is not fetch:
                    return self._follow(fetch, leader, deadline)
                mode = ""
            except Transient as error:
                if isinstance(error, BadAnswer):
                    if bad >= len(_AFTER_BAD):
                        raise
                    mode, bad = _AFTER_BAD[bad], bad + 1
                if clock.monotonic() + pause > deadline:
                    raise
                clock.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2.0, 2 * pause)

    def _arrived_meanwhile(self, fetch: Fetch) -> bool:
        """Another fetch brought the slice between the claim and the cache's answer."""
        with self._lock:
            blocks = [self._store.get((fetch.layer.layer_id, number)) for number in range(fetch.first, fetch.end)]
        for number, block in zip(range(fetch.first, fetch.end), blocks):  # noqa: B905
            if block is not None:
                fetch.put(number, block)
        return None not in blocks

    def _lead(self, fetch: Fetch) -> Fetch:
        """The one fetch that brings this whole slice: this one, widened, unless another does already."""
        number = fetch.first // BLOCKS_PER_SLICE
        layer_id = fetch.layer.layer_id
        with self._lock:
            leader = self._slices.setdefault((layer_id, number), fetch)
            if leader is fetch:
                blocks = fetch.layer.slice_blocks(number)
                fetch.first, fetch.end = blocks.start, blocks.stop
                for block in blocks:
                    self._pending.setdefault((layer_id, block), fetch)
        return leader

    def _follow(self, fetch: Fetch, leader: Fetch, deadline: float) -> None:
        for number in range(fetch.first, fetch.end):
            self._arrived(fetch, number, leader.wait(number, deadline))

    def _attempt(self, fetch: Fetch, connection: RangeConnection, mode: str, deadline: float) -> None:
        start = fetch.next_missing()
        span = (start * BLOCK_BYTES, fetch.end * BLOCK_BYTES - 1)
        path = fetch.layer.cached_path if mode == _CACHED else fetch.layer.path
        asked = "" if mode == _CACHED else mode
        try:
            reply = connection.request(path, *span, headers=fetch.reader.headers(), mode=asked, deadline=deadline)
        except NotFound as error:
            if fetch.layer.answered:  # it exists: a store that denies a read says so too
                raise Transient(f"{error}, though it was read before") from None
            raise
        fetch.layer.learn(reply.total, reply.etag)
        for number in range(start, -(-(reply.last + 1) // BLOCK_BYTES)):
            block = bytearray(min(BLOCK_BYTES, reply.remaining))
            reply.read_into(memoryview(block))
            self._arrived(fetch, number, bytes(block))

    def _arrived(self, fetch: Fetch, number: int, block: bytes) -> None:
        keep = fetch.keep and fetch.wanted[0] <= number < fetch.wanted[1]
        with self._lock:
            self._store.put((fetch.layer.layer_id, number), block, keep=keep)
        fetch.put(number, block)

    def _note_uses(self, layer: Layer, numbers: range, reader: Reader) -> None:
        """What was read ahead and is wanted now, for the first time; metadata was asked for in any case.

        The cache is asked for a byte, so that its log, the next boot trace, has the slice at its place in the order.
        """
        with self._lock:
            used = {number // BLOCKS_PER_SLICE for number in numbers if not self._store.keeps((layer.layer_id, number))}
            fresh = [number for number in sorted(used) if (layer.layer_id, number) in reader.ahead]
            reader.ahead.difference_update((layer.layer_id, number) for number in fresh)
        for number in fresh:
            self._workers.submit(NOTE, partial(self._ask_one_byte, layer, number, reader))

    def _ask_one_byte(self, layer: Layer, number: int, reader: Reader, connection: RangeConnection) -> bool:
        """Of a slice, if the cache has it; whether it does."""
        place, deadline = number * SLICE_BYTES, clock.monotonic() + self._options.timeout_seconds
        with contextlib.suppress(ChainwrightError):
            connection.request(layer.cached_path, place, place, headers=reader.headers(), deadline=deadline).drain()
            return True
        return False
