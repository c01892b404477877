"""Large objects out: ordered pieces, several requests under way, every one bound to the version by its ETag."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from tasks.errors import Transient
from tasks.store.base import ObjectStore
from tasks.units import MIB

PIECE_BYTES = 8 * MIB
PARALLEL_PIECES = 4


def pieces(store: ObjectStore, key: str, size: int, etag: str, start: int = 0) -> Iterator[bytes]:
    """Bytes `[start, size)` in order, in pieces of PIECE_BYTES; at most PARALLEL_PIECES are held.

    PreconditionFailed if the object is another version by now; Transient if a piece comes short.
    """

    def fetch(at: int) -> bytes:
        length = min(PIECE_BYTES, size - at)
        body = store.get_range(key, at, length, etag)
        if len(body) != length:
            raise Transient(f"{store.bucket}/{key}: {len(body)} of {length} bytes at {at}")
        return body

    running: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(PARALLEL_PIECES) as pool:
        try:
            for at in range(start, size, PIECE_BYTES):
                running.append(pool.submit(fetch, at))
                if len(running) >= PARALLEL_PIECES:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def sha256_of(store: ObjectStore, key: str, size: int, etag: str, progress: Callable[[int], None]) -> str:
    """Hash of the stored bytes, read back; `progress` is told the bytes of each piece."""
    digest = hashlib.sha256()
    for piece in pieces(store, key, size, etag):
        digest.update(piece)
        progress(len(piece))
    return digest.hexdigest()
