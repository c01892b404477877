"""Proof that a result shows the same disk, before anything refers to it.

1. `qemu-img check`: no error and no new leak.
2. Our reader's map of the result equals the predicted one, cluster by cluster.
3. The content of every guest range that moved is hashed through the old chain and through the new one.
4. Sizes are equal, and the header names the base in format qcow2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.chain import needs
from tasks.chain.extent import Ranges, allocated, intersect, subtract, union
from tasks.chain.fetches import align, clip
from tasks.chain.layer import ExtentKind, layer_file_name
from tasks.chain.visible import NOBODY, Visible, resolve
from tasks.errors import Permanent
from tasks.execute.guest import GuestView, LocalLayer, ranges_where, same_content
from tasks.execute.receipt import Proof
from tasks.execute.replica import one_range
from tasks.plan.steps import LayerRef
from tasks.qemu.img import CheckResult

_STORED = (ExtentKind.DATA, ExtentKind.COMPRESSED)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Both sides of a merge. `run` top first, old; `under`: base and below, as far as the proof must read them."""

    run: Sequence[LocalLayer]
    under: Sequence[LocalLayer]
    result: LocalLayer
    top_bytes: int  # of the old top's object
    leaks_before: int  # clusters that the old top had leaked already: harmless, and none may come on top
    check: CheckResult
    base: LayerRef | None
    base_size: int  # virtual size of the base; 0 if there is none: behind it, absent clusters read as zero
    drops_equal: bool  # may the result leave out what the base shows already (rebase)?


def prove(evidence: Evidence, shown: LocalLayer | None = None) -> Proof:
    """Permanent, with the reason, unless all four hold. `shown`: the result as it is uploaded, if laid out again."""
    result, top = evidence.result, evidence.run[0]
    check = evidence.check
    if check.corruptions or check.check_errors or check.leaks > evidence.leaks_before:
        raise Permanent(f"image check of the result: {check}")
    _check_header(evidence)
    moved = moved_ranges(evidence)
    _check_map(evidence, moved)
    size = top.map.facts.virtual_size
    before = GuestView([*evidence.run, *evidence.under], size)
    digest = same_content(before, GuestView([shown or result, *evidence.under], size), moved)
    return Proof(
        image_check="clean" if check.clean else f"{check.leaks} clusters leaked before",
        ranges_compared=len(moved),
        bytes_compared=moved.total_bytes,
        sha256_before=digest,
        sha256_after=digest,
        uploaded_sha256="",
        map_equal=True,
    )


def moved_ranges(evidence: Evidence) -> Ranges:
    """Guest ranges that the lower layers decided."""
    run = evidence.run
    return needs.moved([layer.view for layer in run], run[0].map.facts.cluster_size)


def _check_header(evidence: Evidence) -> None:
    facts, old = evidence.result.map.facts, evidence.run[0].map.facts
    name = layer_file_name(evidence.base.layer_id) if evidence.base else None
    if facts.virtual_size != old.virtual_size:
        raise Permanent(f"size changed from {old.virtual_size} to {facts.virtual_size}")
    if facts.backing_file != name or (name and facts.backing_format != "qcow2"):
        raise Permanent(f"header names {facts.backing_file!r} ({facts.backing_format}), expected {name!r}")


def _check_map(evidence: Evidence, moved: Ranges) -> None:
    """The top's own clusters are where they were; moved ranges are held, with zeros as zeros; nothing else is."""
    result, top = evidence.result, evidence.run[0]
    size = top.map.facts.virtual_size
    _check_own(result, top, evidence.top_bytes)
    held = clip(allocated(result.map.extents), size)
    own = clip(allocated(top.map.extents), size)
    extra = subtract(held, union(own, moved))
    if extra.total_bytes:
        raise Permanent(f"the result holds {extra.total_bytes} bytes that no layer of the run decides")
    if evidence.drops_equal:
        return
    view = resolve([layer.view for layer in evidence.run])
    decided = intersect(ranges_where(view, view.owner != NOBODY), moved)
    zeros = ranges_where(view, _is_zero(view) & (view.owner != NOBODY))
    lost = subtract(subtract(decided, held), intersect(zeros, one_range(evidence.base_size, size)))
    if lost.total_bytes:
        raise Permanent(f"the result misses {lost.total_bytes} bytes that the run decides")
    stored = ranges_where(view, np.isin(view.kind, _STORED) & (view.owner != NOBODY))
    kept = resolve([result.view])
    grown = subtract(intersect(ranges_where(kept, np.isin(kept.kind, _STORED)), moved), _whole(stored, top))
    if grown.total_bytes:
        raise Permanent(f"{grown.total_bytes} bytes that were zero clusters are stored as data")


def _check_own(result: LocalLayer, top: LocalLayer, top_bytes: int) -> None:
    """Same kinds, and stored bytes at the same place.

    A zero may get or lose a host cluster: it reads the same. What the old object's end cut short may be whole now.
    """
    view = resolve([top.view, result.view])
    again = resolve([result.view, top.view])
    mine = view.owner == 0
    zero, zero_again = _is_zero(view)[mine], _is_zero(again)[mine]
    stored = ~zero
    same = (
        np.array_equal(view.start, again.start)
        and (again.owner[mine] == 0).all()
        and np.array_equal(zero, zero_again)
        and np.array_equal(view.kind[mine][stored], again.kind[mine][stored])
        and np.array_equal(view.host_offset[mine][stored], again.host_offset[mine][stored])
        and np.array_equal(
            view.host_length[mine][stored],
            np.minimum(again.host_length, top_bytes - again.host_offset)[mine][stored],
        )
    )
    if not same:
        raise Permanent("a cluster of the old top is not where it was")


def _is_zero(view: Visible) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.isin(view.kind, (ExtentKind.ZERO, ExtentKind.ZERO_ALLOCATED))


def _whole(ranges: Ranges, top: LocalLayer) -> Ranges:
    return align(ranges, top.map.facts.cluster_size)
