"""What every step of one attempt of one action needs."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tasks import descriptors
from tasks.chain.extent import Extents
from tasks.chain.layer import layer_file_name
from tasks.chain.qcow2_layout import KNOWN_HEADER_BYTES, parse_header
from tasks.chain.qcow2_names import NameRules
from tasks.errors import NotFound, PreconditionFailed, Refused
from tasks.execute.checkpoint import Checkpoint
from tasks.execute.guest import LocalLayer
from tasks.execute.meter import Meter
from tasks.execute.parallel import in_parallel
from tasks.execute.replica import Replica, read_header, read_metadata
from tasks.inventory.local import LayerMap
from tasks.plan.steps import LayerRef, MergeAction
from tasks.qemu.process import Limits
from tasks.settings import Fleet
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.units import GIB, MIB

_MEMORY_PER_LINK = 40 * MIB  # QEMU's table cache of 32 MiB and what belongs to a node
_SECONDS_PER_GIB = 120.0  # far below any disk's speed: a limit against hanging, not a goal


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt. The stores count what passes through them."""

    fleet: Fleet
    action: MergeAction
    attempt_id: str
    stores: dict[str, ObjectStore]
    meter: Meter
    at: Checkpoint
    maps: bytes | None = None  # extents of the run as the plan saw them
    folder: Path = Path()  # set once space is reserved
    opened: ExitStack = field(default_factory=ExitStack)  # closes the files in it, before the folder goes

    @property
    def home(self) -> ObjectStore:
        """Where the result goes."""
        return self.stores[self.action.home_region]

    @property
    def chain(self) -> tuple[LayerRef, ...]:
        """The whole chain as the action knows it, tip first."""
        base = (self.action.base,) if self.action.base else ()
        return (*self.action.above, *self.action.run, *base, *self.action.below)

    @property
    def limits(self) -> Limits:
        """For QEMU's tools, by the size of the work."""
        size = sum(ref.size_bytes for ref in self.chain)
        seconds = 600 + _SECONDS_PER_GIB * size / GIB
        return Limits(
            timeout_seconds=seconds,
            cpu_seconds=int(seconds),
            memory_bytes=2 * GIB + _MEMORY_PER_LINK * len(self.chain),
            nofile=1024 + 4 * len(self.chain),
        )

    def new_layer_id(self, number: int) -> str:
        """Id of the attempt's n-th new layer, counted from the merged one upwards. Random to everybody else."""
        text = f"{self.action.action_id}/{self.attempt_id}/{number}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def creates(self) -> tuple[tuple[str, str], ...]:
        """(region, key) of every object that this attempt may write."""
        numbers = range(1 + len(self.action.above))
        return tuple((self.action.home_region, keys.layer(self.new_layer_id(n))) for n in numbers)

    def can_copy_from(self, region: str) -> bool:
        """May the home region's store copy ranges of that region's objects itself?"""
        return self.fleet.copies_between(region, self.action.home_region)


def check_inputs(job: Job, refs: Sequence[LayerRef]) -> None:
    """Are the layers what the plan saw? Refused (`stale_layer`, `unknown_region`) otherwise."""
    for ref in refs:
        if ref.region not in job.stores:
            raise Refused("unknown_region", f"layer {ref.layer_id}: this fleet has no region {ref.region!r}")
    in_parallel(lambda ref: _check_input(job, ref), refs)


def _check_input(job: Job, ref: LayerRef) -> None:
    try:
        info = job.stores[ref.region].info(keys.layer(ref.layer_id))
    except NotFound:
        raise Refused("stale_layer", f"layer {ref.layer_id} is not in {ref.region} any more") from None
    if info.etag != ref.etag or info.size != ref.size_bytes:
        raise Refused("stale_layer", f"layer {ref.layer_id} in {ref.region} is not the object that was planned")


Opened = tuple[Replica, LocalLayer]


def open_layer(job: Job, ref: LayerRef) -> Opened:
    """A sparse replica of the layer in the work directory, its metadata read and accepted."""
    return _opened(job, ref, read_metadata)


def open_layers(job: Job, refs: Sequence[LayerRef]) -> list[Opened]:
    """Several at once."""
    descriptors.allow(len(refs) + len(job.chain))
    return in_parallel(lambda ref: open_layer(job, ref), refs)


def open_known(job: Job, ref: LayerRef, extents: Extents) -> Opened:
    """The same for a layer whose extents are known for its ETag: only its header is read and accepted."""

    def read(replica: Replica, rules: NameRules) -> LayerMap:
        return LayerMap(read_header(replica, rules), extents)

    return _opened(job, ref, read)


def _opened(job: Job, ref: LayerRef, read: Callable[[Replica, NameRules], LayerMap]) -> Opened:
    replica = Replica(ref, job.stores[ref.region], job.folder)
    job.opened.callback(replica.close)
    try:
        found = read(replica, NameRules(own_name=layer_file_name(ref.layer_id)))
    except PreconditionFailed:
        raise Refused("stale_layer", f"layer {ref.layer_id} in {ref.region} changed under us") from None
    return replica, LocalLayer(replica, found)


def check_links(layers: Sequence[Opened], base: LayerRef | None, *, complete: bool) -> None:
    """Each layer's header names the next one of the plan, in format qcow2 (hazards 3, 13, 14).

    `base` is what the last one must name (None: nothing). `complete`: is the last one the end of the plan's chain?
    """
    names = [layer_file_name(replica.ref.layer_id) for replica, _ in layers[1:]]
    last = layer_file_name(base.layer_id) if base else None
    for (replica, local), expected in zip(layers, [*names, last], strict=True):
        facts = local.map.facts
        if facts.backing_file != expected and (expected is not None or complete):
            raise Refused(
                "lineage", f"layer {replica.ref.layer_id} names {facts.backing_file!r}, the plan says {expected!r}"
            )
        if facts.backing_file is not None and facts.backing_format != "qcow2":
            raise Refused("backing_format", f"layer {replica.ref.layer_id} declares {facts.backing_format!r}")


def check_bitmaps(job: Job, run: Sequence[Opened], *, top_too: bool) -> None:
    """Refused (`bitmaps_present`) if the merge would lose or dirty persistent bitmaps (hazard 10).

    `top_too`: QEMU writes into the top, so that bitmaps there are refused even where policy lets others be dropped.
    """
    for number, (replica, layer) in enumerate(run):
        count = layer.map.facts.bitmaps
        if count and (not job.fleet.policy.drop_bitmaps or (top_too and number == 0)):
            raise Refused("bitmaps_present", f"layer {replica.ref.layer_id} has {count}: the merge would spoil them")


def virtual_size_of(job: Job, ref: LayerRef) -> int:
    """A layer's virtual size, from its header alone."""
    block = job.stores[ref.region].get_range(keys.layer(ref.layer_id), 0, KNOWN_HEADER_BYTES, ref.etag)
    return parse_header(block).virtual_size
