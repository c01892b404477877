"""Large objects in: a file or a stream of bytes becomes a new object, multipart above a bound, several parts at once.

An object appears whole or not at all. After a failure the unfinished upload is aborted; if even that fails it stays in
the store's list of pending uploads, which retirement names and clears.
"""

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

from tasks.errors import ChainwrightError, NotFound, OutcomeUnknown, PreconditionFailed, Transient
from tasks.store.base import ObjectStore, Part
from tasks.units import MIB

PART_BYTES = 16 * MIB
MAX_PARTS = 10_000
PARALLEL_PARTS = 4


def upload_file(store: ObjectStore, key: str, path: Path) -> str:
    """Create `key` from the file's bytes; the new ETag. PreconditionFailed if the key exists."""
    size = path.stat().st_size
    return upload_stream(store, key, read_parts(path, part_bytes(size)), size)


def upload_stream(store: ObjectStore, key: str, parts: Iterable[bytes], size: int) -> str:
    """Create `key` from parts (all but the last at least 5 MiB) that sum up to `size` bytes; the new ETag.

    PreconditionFailed if the key exists; OutcomeUnknown if the last step's answer was lost and cannot be read back.
    """
    pieces = iter(parts)
    first = next(pieces, b"")
    if len(first) == size:
        return store.put_new(key, first)
    upload_id = store.create_multipart(key)
    try:
        done = _send_parts(store, key, upload_id, itertools.chain([first], pieces))
        _check_size(f"{store.bucket}/{key}", done, size)
        return complete_upload(store, key, upload_id, done)
    except OutcomeUnknown:
        raise
    except BaseException:
        with suppress(ChainwrightError):
            store.abort_multipart(key, upload_id)
        raise


def _check_size(where: str, parts: list[Part], size: int) -> None:
    if sum(part.size for part in parts) != size:
        raise Transient(f"{where}: the source changed while it was sent")


def complete_upload(store: ObjectStore, key: str, upload_id: str, parts: list[Part]) -> str:
    """Complete the upload and, when the answer is lost, read back what happened.

    An object of the expected size under the key counts as ours: keys of layers are random or derived from the content,
    so nobody else writes other bytes there. OutcomeUnknown if it cannot be read.
    """
    size = sum(part.size for part in parts)
    try:
        return store.complete_multipart(key, upload_id, parts)
    except (Transient, NotFound) as error:
        try:
            found = store.info(key)
        except NotFound:
            raise Transient(f"{store.bucket}/{key}: not completed: {error}") from None
        except ChainwrightError as unreadable:
            raise OutcomeUnknown(f"{store.bucket}/{key}: completed or not? {error}; then {unreadable}") from None
        if found.size != size:
            raise PreconditionFailed(f"{store.bucket}/{key}: exists with {found.size} bytes, not {size}") from None
        return found.etag


def part_bytes(size: int) -> int:
    """Bytes of one part such that the object fits into the allowed number of parts."""
    needed = -(-size // MAX_PARTS)
    return max(PART_BYTES, -(-needed // MIB) * MIB)


def read_parts(path: Path, length: int) -> Iterator[bytes]:
    """The file's bytes in pieces of `length`."""
    with path.open("rb") as file:
        while piece := file.read(length):
            yield piece


def _send_parts(store: ObjectStore, key: str, upload_id: str, pieces: Iterable[bytes]) -> list[Part]:
    """Send in parallel, never holding more than PARALLEL_PARTS + 1 pieces in memory."""
    done: list[Part] = []
    running: set[Future[Part]] = set()
    with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
        try:
            for number, piece in enumerate(pieces, start=1):
                running.add(pool.submit(store.upload_part, key, upload_id, number, piece))
                if len(running) >= PARALLEL_PARTS:
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    done += [future.result() for future in finished]
            done += [future.result() for future in running]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return sorted(done, key=lambda part: part.number)
