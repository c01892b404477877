"""Images that our own reader has read and found sound: the only ones that a qemu process may open."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.chain.layer import LayerFacts
from tasks.errors import Refused

Format = Literal["qcow2", "raw"]


@dataclass(frozen=True, slots=True)
class AcceptedImage:
    """A local image. Make it with `accept` or `accept_raw` only."""

    path: Path
    format: Format
    facts: LayerFacts | None  # None: raw


def accept(path: Path, facts: LayerFacts) -> AcceptedImage:
    """A qcow2 file whose metadata was read. Refused with the reader's own reason otherwise."""
    if facts.status != "ok":
        raise Refused(facts.reason or "unreadable", f"{path.name}: {facts.detail or 'not a sound qcow2 image'}")
    return AcceptedImage(path, "qcow2", facts)


def accept_raw(path: Path) -> AcceptedImage:
    """A raw base that the operator's policy names (hazard 13: never by looking at its bytes)."""
    return AcceptedImage(path, "raw", None)
