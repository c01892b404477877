"""The metadata of a local qcow2 file, by the same reader as the inventory's."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.chain import extent
from tasks.chain import qcow2_reasons as why
from tasks.chain.extent import Extents
from tasks.chain.layer import LayerFacts
from tasks.chain.qcow2_layout import Limits
from tasks.chain.qcow2_names import NameRules
from tasks.chain.qcow2_ranges import ByteRange
from tasks.chain.qcow2_reader import Qcow2Reader
from tasks.errors import NotFound


@dataclass(frozen=True, slots=True, eq=False)
class LayerMap:
    """Facts and extents of one layer. The extents are empty if `facts.status` is `refused`."""

    facts: LayerFacts
    extents: Extents  # sorted by guest offset, maximal runs

    @property
    def ok(self) -> bool:
        """May the layer be opened by QEMU and used?"""
        return self.facts.status == "ok"


def inspect_file(path: Path | str, rules: NameRules | None = None, limits: Limits | None = None) -> LayerMap:
    """Read the metadata of the file. Hostile or broken content never raises: `facts.status` says `refused`.

    Without `rules`, any plain relative backing name of format qcow2 is accepted, and the file itself is refused as its
    own backing file. The whole map is held (40 bytes an extent). NotFound if the file is not there or unreadable.
    """
    file = Path(path)
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for its writer
    except OSError as error:
        raise NotFound(f"{file}: {error.strerror}") from None
    try:
        return _inspect(descriptor, rules or NameRules(own_name=file.name), limits)
    finally:
        os.close(descriptor)


def _inspect(descriptor: int, rules: NameRules, limits: Limits | None) -> LayerMap:
    found = os.fstat(descriptor)
    reader = Qcow2Reader(found.st_size, rules, limits)
    if not stat.S_ISREG(found.st_mode):
        return unreadable(reader, "not a regular file")
    try:
        return read_layer(reader, lambda wanted: _pread(descriptor, wanted))
    except OSError as error:
        return unreadable(reader, f"read error: {error.strerror}")


def read_layer(reader: Qcow2Reader, read: Callable[[ByteRange], bytes]) -> LayerMap:
    """Feed the reader from `read` to its end. Errors of `read` pass through."""
    parts: list[Extents] = []
    while reader.wants:
        parts += reader.feed([read(wanted) for wanted in reader.wants])
    return LayerMap(reader.facts, extent.concat(parts) if reader.facts.status == "ok" else extent.empty())


def unreadable(reader: Qcow2Reader, detail: str) -> LayerMap:
    """The map of a layer whose bytes cannot be had."""
    return LayerMap(replace(reader.facts, status="refused", reason=why.UNREADABLE, detail=detail), extent.empty())


def _pread(descriptor: int, wanted: ByteRange) -> bytes:
    """All bytes of the range that the file has."""
    parts: list[bytes] = []
    at = wanted.start
    while at < wanted.end:
        part = os.pread(descriptor, wanted.end - at, at)
        if not part:
            break
        parts.append(part)
        at += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
