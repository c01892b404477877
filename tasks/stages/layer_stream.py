"""A local layer as the bytes that go to the store: the file, but for the backing name in its first cluster.

A layer's id is the first 32 hex digits of the SHA-256 of exactly those bytes. The header names the parent by its id, so
the id stands for the content of the whole chain below: the same base under two disks is one object, and an import that
was cut short finds what it has already sent. The user's file is only read.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.chain.header_rewrite import rewrite_backing
from tasks.chain.layer import layer_file_name
from tasks.errors import Refused
from tasks.stages.local_chain import LocalLayer
from tasks.units import MIB

_HASH_BYTES = 4 * MIB


def rewritten_start(layer: LocalLayer, parent_id: str | None) -> bytes:
    """The first cluster as it will be stored; empty for a base, which stays as it is."""
    if parent_id is None:
        return b""
    with layer.path.open("rb") as file:
        return rewrite_backing(file.read(layer.facts.cluster_size), layer_file_name(parent_id), "qcow2")


def stream(path: Path, start: bytes, piece_bytes: int) -> Iterator[bytes]:
    """The file in pieces, its first bytes replaced by `start`."""
    with path.open("rb") as file:
        file.seek(len(start))
        head = start
        while piece := head + file.read(max(piece_bytes - len(head), 0)):
            yield piece[:piece_bytes]
            head = piece[piece_bytes:]


def digest_of(path: Path, start: bytes, progress: Callable[[int], None]) -> str:
    """SHA-256 of the bytes that `stream` gives."""
    digest = hashlib.sha256()
    for piece in stream(path, start, _HASH_BYTES):
        digest.update(piece)
        progress(len(piece))
    return digest.hexdigest()


def checked_stream(
    path: Path, start: bytes, piece_bytes: int, sha256: str, progress: Callable[[int], None]
) -> Iterator[bytes]:
    """As `stream`, but the last piece comes only if all bytes have the expected hash.

    So an upload whose source changed can never be completed. Refused (`file_changed`).
    """
    digest = hashlib.sha256()
    held: bytes | None = None
    for piece in stream(path, start, piece_bytes):
        digest.update(piece)
        if held is not None:
            progress(len(held))
            yield held
        held = piece
    if digest.hexdigest() != sha256:
        raise Refused("file_changed", f"{path}: changed while it was imported")
    if held is not None:
        progress(len(held))
        yield held
