"""The local files that a VM has written: found from the newest down, each named, checked and ready to become a layer.

QEMU wrote their headers, so a backing name may be a path, an NBD address or `json:{…}`. It is only ever compared
(`tasks.chain.lineage`) with what the head's record says must be below, and replaced by the parent's layer id in the
bytes that are read, checked and stored. The files themselves are not changed.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.chain.header_rewrite import read_backing
from tasks.chain.layer import LayerFacts, layer_file_name
from tasks.chain.lineage import backing_target
from tasks.chain.qcow2_layout import parse_header
from tasks.chain.qcow2_names import NameRules
from tasks.chain.qcow2_ranges import ByteRange
from tasks.chain.qcow2_reader import Qcow2Reader
from tasks.errors import NotFound, Refused
from tasks.inventory.local import read_layer
from tasks.stages.layer_stream import rewritten_start
from tasks.stages.local_chain import LocalLayer

MAX_OVERLAYS = 64  # files of one running VM that were never uploaded: more is a mistake
_HEADER_BYTES = 1 << 21  # the largest cluster


@dataclass(frozen=True, slots=True)
class Overlay:
    """One local file and the file name that its header means by its backing file."""

    path: Path
    target: str


def find_overlays(newest: Path, stored: Mapping[str, str]) -> tuple[list[Overlay], str]:
    """The files from `newest` down to the first backing name in `stored` (file name -> layer id); and that layer id.

    Files are looked for beside `newest` only. NotFound: a file is missing. Refused: `lineage_unclear` (a name that
    cannot be understood), `lineage_mismatch` (it ends at something that the disk does not rest on).
    """
    overlays: list[Overlay] = []
    path = newest
    while len(overlays) < MAX_OVERLAYS:
        target = target_of(path)
        overlays.append(Overlay(path, target))
        if target in stored:
            return overlays, stored[target]
        below = newest.parent / target
        if not below.is_file() or any(overlay.path == below for overlay in overlays):
            known = ", ".join(sorted(stored)) or "nothing"
            raise Refused("lineage_mismatch", f"{path}: rests on {target}, the disk rests on {known}")
        path = below
    raise Refused("lineage_mismatch", f"{newest}: more than {MAX_OVERLAYS} local files below")


def read_overlay(path: Path, parent_id: str) -> LocalLayer:
    """The file as a layer over `parent_id`: metadata read from the bytes that would be stored.

    Refused with the reader's reason if they are not a sound image.
    """
    size = path.stat().st_size
    start = rewritten_start(LocalLayer(path, size, _header_facts(path)), parent_id)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:

        def read(wanted: ByteRange) -> bytes:
            patch = start[wanted.start : wanted.end]
            body = os.pread(descriptor, wanted.end - wanted.start, wanted.start)
            return patch + body[len(patch) :]

        facts = read_layer(Qcow2Reader(size, NameRules(own_name=path.name)), read).facts
    finally:
        os.close(descriptor)
    if facts.status != "ok":
        raise Refused(facts.reason or "unreadable", f"{path}: {facts.detail or 'not a sound qcow2 image'}")
    if facts.backing_file != layer_file_name(parent_id):
        raise Refused("header_not_normalised", f"{path}: backing name {facts.backing_file!r} after the rewrite")
    return LocalLayer(path, size, facts)


def target_of(path: Path) -> str:
    """The file name that the header means by its backing file. Refused (`lineage_unclear`)."""
    first = _first_bytes(path)
    name, _ = read_backing(first[: parse_header(first).cluster_size])
    target = backing_target(name) if name else None
    if target is None:
        raise Refused("lineage_unclear", f"{path}: backing name {name!r} leads to no layer and no file")
    return target


def shape_of(path: Path) -> tuple[int, int]:
    """Virtual size and cluster size, in bytes."""
    header = parse_header(_first_bytes(path))
    return header.virtual_size, header.cluster_size


def _header_facts(path: Path) -> LayerFacts:
    """Enough to rewrite the header: the cluster size."""
    return LayerFacts(status="ok", cluster_bits=parse_header(_first_bytes(path)).cluster_bits)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEADER_BYTES)
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}") from None
