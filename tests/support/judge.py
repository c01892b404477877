"""Reads a mutant with the product's reader under watch, and asks QEMU about those that were accepted."""

import json
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.chain.extent import Extents, concat
from tasks.chain.layer import ExtentKind, LayerFacts
from tasks.chain.qcow2_reader import Qcow2Reader
from tasks.units import MIB
from tests.support import qemu_images

# CPU time that a layer may cost its reader: a fixed part, and so much per MiB of metadata that it was fed.
BASE_SECONDS, SECONDS_PER_MIB = 0.5, 0.5
# What `qemu-img check` may complain about in an image that we accept: counts, which we do not read, and their mirror in
# the copied flags. Everything else is a fault in structures that the reader vouches for.
_COUNTS = re.compile(
    r"refcount=\d+|OFLAG_COPIED|^Leaked|Can't get refcount|^Rebuilding refcount|^The following|^No errors|^$"
    r"|errors were found on the image|Data may be corrupted|leaked clusters were found|This means waste"
    r"|overflow cluster offset|^Use qemu-img amend|considered inconsistent|Some clusters may be leaked"
    r"|^Image end offset|allocated, .* fragmented"
)


@dataclass(frozen=True)
class Reading:
    """What the reader made of an image."""

    facts: LayerFacts
    extents: Extents
    seconds: float
    bytes: int


def read(image: bytes) -> Reading:
    """All of it, with the CPU time and the bytes that it took."""
    started = time.process_time()
    reader = Qcow2Reader(len(image))
    parts, fed = [], 0
    while reader.wants:
        blocks = [image[want.start : want.end] for want in reader.wants]
        fed += sum(map(len, blocks))
        parts += reader.feed(blocks)
    return Reading(reader.facts, concat(parts), time.process_time() - started, fed)


def check_cost(reading: Reading) -> None:
    """The stated time."""
    allowed = BASE_SECONDS + SECONDS_PER_MIB * reading.bytes / MIB
    assert reading.seconds <= allowed, f"{reading.seconds:.2f} s for {reading.bytes} bytes: {reading.facts}"


def check_sound(reading: Reading, size: int) -> None:
    """What must be true of every accepted layer, whatever QEMU says."""
    extents, facts = reading.extents, reading.facts
    assert (extents.length > 0).all()
    assert (extents.start[1:] >= extents.end[:-1]).all()
    assert not len(extents) or int(extents.end[-1]) <= facts.virtual_size
    stored = extents[extents.host_offset >= 0]
    assert (stored.host_offset < size + facts.cluster_size).all()
    assert ((stored.host_length == 0) | (stored.host_offset + stored.host_length <= size)).all()
    short = stored.host_length < stored.length
    assert (short <= ((stored.kind == ExtentKind.COMPRESSED) | (stored.host_offset + stored.length > size))).all()
    assert (extents.host_length[extents.host_offset < 0] == 0).all()


def check_with_qemu(image: bytes, reading: Reading, path: Path) -> None:
    """QEMU must open the accepted image, see the same map, and find nothing wrong but counts."""
    path.write_bytes(image)
    assert qemu_images.ranges_of(reading.extents) == qemu_images.own_map(path)
    node: dict[str, Any] = {
        "driver": "qcow2",
        "file": {"driver": "file", "filename": str(path)},
        "backing": None,
    }
    done = subprocess.run(
        ["qemu-img", "check", f"json:{json.dumps(node)}"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode in (0, 2, 3), f"{done.returncode}: {done.stdout} {done.stderr}"
    wrong = [line for line in (done.stdout + done.stderr).splitlines() if not _COUNTS.search(line)]
    assert not wrong, wrong
