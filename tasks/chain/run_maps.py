"""The extents of a run's layers as one small object beside a plan, so that `compose` need not read their tables. Pure.

    JSON line {"layers": [[layer id, etag, extents], …]}, then the columns of all extents as little-endian int64
    differences, byte planes apart (they compress well), everything under zlib

What it says is true of the objects with these ETags and of no others: `decode` takes it for exactly the layers that are
expected, and whoever uses it reads and copies them under the same ETags.
"""

import json
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tasks.chain.extent import COLUMNS, Extents, concat
from tasks.chain.layer import ExtentKind
from tasks.errors import Permanent


class Name(NamedTuple):
    """A layer's object."""

    layer_id: str
    etag: str


def encode(names: Sequence[Name], extents: Sequence[Extents]) -> bytes:
    """The same input gives the same bytes."""
    rows = [len(item) for item in extents]
    head = json.dumps({"layers": [[*name, count] for name, count in zip(names, rows, strict=True)]})
    every = concat(extents)
    table = np.stack([getattr(every, column).astype("<i8") for column in COLUMNS])
    planes = np.diff(table, axis=1, prepend=0).astype("<i8").view(np.uint8).reshape(len(COLUMNS), -1, 8)
    return zlib.compress(head.encode() + b"\n" + planes.transpose(0, 2, 1).tobytes())


def decode(body: bytes, names: Sequence[Name]) -> list[Extents]:
    """The extents by layer. Permanent if the object is malformed or speaks of other layers."""
    try:
        head, _, planes = zlib.decompress(body).partition(b"\n")
        layers = json.loads(head)["layers"]
        found = [Name(layer_id, etag) for layer_id, etag, _ in layers]
        ends = np.cumsum([count for _, _, count in layers])
        table = np.frombuffer(planes, np.uint8).reshape(len(COLUMNS), 8, int(ends[-1]))
    except (zlib.error, ValueError, KeyError, TypeError, IndexError) as error:
        raise Permanent(f"run maps: malformed: {error}") from None
    if found != list(names):
        raise Permanent(f"run maps: of {found}, not of {list(names)}")
    columns = np.cumsum(np.ascontiguousarray(table.transpose(0, 2, 1)).view("<i8")[..., 0], axis=1, dtype=np.int64)
    start, length, kind, host_offset, host_length = columns
    every = Extents(start, length, kind.astype(np.int8), host_offset, host_length)
    return [every[low:high] for low, high in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]


def check_fits(extents: Extents, virtual_size: int, object_bytes: int, cluster_size: int) -> None:
    """Permanent unless the extents can be those of such an object: in order, inside it, data on cluster borders."""
    plain = np.isin(extents.kind, (ExtentKind.DATA, ExtentKind.ZERO_ALLOCATED))
    stored = np.isin(extents.kind, (ExtentKind.DATA, ExtentKind.COMPRESSED))
    wrong = (
        (extents.length <= 0)
        | (extents.start < 0)
        | (extents.start % cluster_size != 0)
        | (extents.end > virtual_size)
        | (plain & (extents.host_offset % cluster_size != 0))
        | (stored & (extents.host_offset < cluster_size))
        | (stored & (extents.host_offset + extents.host_length > object_bytes))
    )
    if wrong.any() or (extents.start[1:] < extents.end[:-1]).any():
        raise Permanent("run maps: the extents do not fit the object")
