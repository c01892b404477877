"""A plan as a value: what will be done, why, what it will cost; and all that was skipped, and why."""

from dataclasses import dataclass, field
from typing import Literal

Engine = Literal["rebase", "stream", "compose", "live"]


@dataclass(frozen=True, slots=True)
class LayerRef:
    """A layer as the plan saw it. The executor checks the ETag again before it reads a byte."""

    layer_id: str
    region: str
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Predicted (in a plan) or actual (in a receipt) effort. Dicts are by region."""

    read_bytes: dict[str, int] = field(default_factory=dict)  # fetched from that region's store
    write_bytes: dict[str, int] = field(default_factory=dict)  # uploaded to it
    copy_bytes: dict[str, int] = field(default_factory=dict)  # copied by the store itself
    requests: int = 0
    egress_usd: float = 0.0
    temp_bytes: int = 0  # in the work directory
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Benefit:
    """What the merge brings."""

    layers_removed: int = 0
    freed_bytes: int = 0  # stored bytes that no head needs afterwards
    memory_bytes: int = 0  # table memory saved per open chain
    first_read_seconds: float = 0.0
    score: float = 0.0  # the planner's one figure, in the unit that policy weighs


@dataclass(frozen=True, slots=True)
class MergeAction:
    """Merge one run of consecutive layers of one disk's chain and swing its head.

    `run` is ordered from top to bottom and contains every layer that is replaced by one new layer; `above` (top to
    bottom) are layers between the head's tip and the run that only get a new header; `base` is the layer that the new
    one is put on (None = flatten).
    """

    action_id: str  # derived from the inputs: the same inputs give the same id
    disk_id: str
    home_region: str
    engine: Engine
    engine_reason: str  # why this engine
    engines_refused: dict[str, str]  # engine -> why not
    tip: str
    above: tuple[LayerRef, ...]
    run: tuple[LayerRef, ...]
    base: LayerRef | None
    below: tuple[LayerRef, ...]  # the rest of the chain under base: rebase must read it
    reason: str  # code, e.g. `chain_too_long`
    cost: Cost
    benefit: Benefit
    maps: str = ""  # key of the run's extents (tasks.chain.run_maps): compose reads them, not the layers' tables


@dataclass(frozen=True, slots=True)
class Skip:
    """A disk (or a run) that was left alone."""

    disk_id: str
    reason: str  # code
    detail: str  # numbers, for people


@dataclass(frozen=True, slots=True)
class Plan:
    """What `chainwright plan` prints, the UI shows, a person approves and the executor runs, unchanged."""

    plan_id: str
    snapshot_id: str  # the manifest it was made from
    created_at: str
    actions: tuple[MergeAction, ...]
    skips: tuple[Skip, ...]
    total: Cost
    maps: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)  # by key; objects of their own
