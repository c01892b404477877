"""What the operator allows: thresholds, budgets and safety margins. Part of fleet.toml (`[policy]`)."""

from dataclasses import dataclass, field
from typing import Literal

from tasks.units import GIB, MIB


@dataclass(frozen=True, slots=True)
class Budget:
    """What one run of maintenance may spend. Bytes are counted at the stores."""

    read_bytes: int = 100 * GIB  # fetched from stores, all regions together
    write_bytes: int = 100 * GIB  # uploaded to stores
    region_read_bytes: int = 50 * GIB  # fetched from any one region
    region_write_bytes: int = 50 * GIB  # uploaded to any one region
    egress_usd: float = 10.0
    actions: int = 500


@dataclass(frozen=True, slots=True)
class Safety:
    """Margins before something is deleted or taken over. Each is a hazard's answer."""

    grace_hours: float = 72.0  # hazard 22: too-short grace; policy cannot go below without `allow_short_grace`
    allow_short_grace: bool = False
    warm_wait_hours: float = 72.0  # past the grace, until what replaced a layer is cached where the layer was read
    lease_seconds: int = 3600  # hazard 16, 23: longer than any single step of an action
    max_retired_layers: int = 1000  # per run
    max_retired_bytes: int = 1024 * GIB  # per run
    max_retired_share: float = 0.2  # of the fleet's layers per run: a run that wants more stops and says why
    verify: Literal["map", "full"] = "map"  # full: compare the whole guest view too


@dataclass(frozen=True, slots=True)
class Weights:
    """What things are worth to this operator, in US dollars: the planner's common unit. Defaults: list prices."""

    horizon_months: float = 1.0  # a merge must pay within this time
    memory_usd_per_gib_month: float = 3.0  # of a host's memory, spent on layer tables
    start_second_usd: float = 0.002  # one second that a person waits for a start
    starts_per_month: float = 20.0  # of one disk
    lookups_usd_per_million: float = 0.05  # reads that have to look through one more layer
    layer_over_limit_usd: float = 0.05  # each layer above `max_chain_length`
    worker_usd_per_gb: float = 0.004  # each 10^9 bytes that pass through a worker
    request_usd: float = 0.000005  # one PUT or part copy
    action_usd: float = 0.01  # one more action: its proof, its receipt, a person who looks at it
    worker_usd_per_hour: float = 0.10
    expected_equal_share: float = 0.0  # of compared bytes that turn out equal to the base (receipts tell)


@dataclass(frozen=True, slots=True)
class Policy:
    """Thresholds of the planner. Defaults follow the talk."""

    max_chain_length: int = 8  # layers; longer chains are worth a merge
    keep_layers: int = 2  # layers of the private part left above the merged run's base, tip included
    small_backing_bytes: int = 300 * MIB  # the talk's rule: a parent this small is rebased at once
    compare_with_base: Literal["never", "auto", "always"] = "auto"
    flatten: bool = False  # may a merge swallow the base (no backing left)?
    drop_bitmaps: bool = False  # hazard 10
    max_garbage_share: float = 0.2  # dead bytes that compose may keep in a result
    approve_above_bytes: int = 1024 * GIB  # plans that move more, the stores' own copies included, wait for a person
    protected_disks: tuple[str, ...] = ()
    raw_bases: tuple[str, ...] = ()  # object keys of raw images that are accepted as bases
    window: str = ""  # "22:00-06:00" UTC; empty = always
    bring_home: bool = False  # merge hot remote chains into their home region
    live_streams: bool = False  # chain_maintenance may stream running disks in their VMs
    rebase_small_parents: bool = False  # short chains too, as the talk does before upload
    merge_when_shadowed_share: float = 0.5  # short chains too, when this share of the private part is overwritten
    merge_when_shadowed_bytes: int = 1 * GIB  # and it is at least so much
    weights: Weights = field(default_factory=Weights)
    budget: Budget = field(default_factory=Budget)
    safety: Safety = field(default_factory=Safety)
