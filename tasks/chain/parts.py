"""Which parts make a new object out of an old one: what the store copies itself, what the worker sends. Pure.

S3's rules: every part but the last has at least 5 MiB, none more than 5 GiB, at most 10,000 parts; a range can be
copied only from an object of more than 5 MiB.
"""

from dataclasses import dataclass

from tasks.chain.extent import Ranges
from tasks.units import GIB, MIB

MIN_PART_BYTES = 5 * MIB
MAX_PART_BYTES = 5 * GIB
MAX_PARTS = 10_000
SEND_BYTES = 16 * MIB  # of one sent part: several are sent at once and held in memory
COPY_BYTES = 128 * MIB  # of one copied part: several are copied at once


@dataclass(frozen=True, slots=True)
class PartPlan:
    """`[start, start + length)` of the new object: copied from the same place of the old one, or sent."""

    copy: bool
    start: int
    length: int


def plan_parts(size: int, changed: Ranges, old_size: int) -> list[PartPlan]:
    """Cover a new object of `size` bytes that equals an old one of `old_size` bytes except in the `changed` ranges.

    What lies beyond the old object is changed by definition. `old_size` 0: nothing can be copied. Each change costs at
    least one part of 5 MiB, so neighbours share one.

        changed     #          ##                         #######
        parts       |send  |copy |send     |copy      |send      |
    """
    pieces: list[PartPlan] = []
    at = 0
    for start, end in _changes(size, changed, old_size if old_size > MIN_PART_BYTES else 0):
        if start - at >= MIN_PART_BYTES:
            pieces.append(PartPlan(copy=True, start=at, length=start - at))
            at = start
        if end > at:
            at = _send_until(pieces, at, end, size)
    if at < size:  # the rest after the last change; as the last part it may have any length
        pieces.append(PartPlan(copy=True, start=at, length=size - at))
    return cut(pieces, size)


def sent_bytes(parts: list[PartPlan]) -> int:
    """Bytes that travel through the worker."""
    return sum(part.length for part in parts if not part.copy)


def copied_bytes(parts: list[PartPlan]) -> int:
    """Bytes that the store copies itself."""
    return sum(part.length for part in parts if part.copy)


def _changes(size: int, changed: Ranges, old_size: int) -> list[tuple[int, int]]:
    pairs = [(max(0, start), min(end, old_size, size)) for start, end in changed.pairs()]
    if size > old_size:
        pairs.append((old_size, size))
    return [(start, end) for start, end in pairs if end > start]


def _send_until(pieces: list[PartPlan], at: int, end: int, size: int) -> int:
    """One more range to send, joined with a send just before it; where it ends."""
    if pieces and not pieces[-1].copy:
        at = pieces.pop().start
    end = min(size, max(end, at + MIN_PART_BYTES))
    pieces.append(PartPlan(copy=False, start=at, length=end - at))
    return end


def cut(pieces: list[PartPlan], size: int) -> list[PartPlan]:
    """Long pieces as several parts, none shorter than allowed, so that they travel in parallel."""
    parts: list[PartPlan] = []
    for piece in pieces:
        goal = max(COPY_BYTES if piece.copy else SEND_BYTES, -(-size // (MAX_PARTS // 4)))
        count = max(1, piece.length // goal)  # rounded down: no part falls below the goal
        step = -(-piece.length // count)
        end = piece.start + piece.length
        parts += [PartPlan(piece.copy, start, min(step, end - start)) for start in range(piece.start, end, step)]
    return parts
