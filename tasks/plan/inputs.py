"""What the planner knows: chains, prices and the policy, as values. `tasks.analytics.planner_inputs` makes them.

Order is always from the tip down: `layers[0]` is the head's tip, `layers[-1]` the chain's base.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tasks.plan.policy import Policy
from tasks.plan.steps import LayerRef
from tasks.units import MIB

L2_CACHE_BYTES = 32 * MIB  # QEMU's default bound of an image's table cache (notes: 32 MiB per link measured)


@dataclass(frozen=True, slots=True)
class LayerInput:
    """One layer as the manifest describes it. Sizes in bytes; `requests_per_day` is what readers asked of it."""

    layer_id: str
    region: str
    etag: str
    size_bytes: int
    status: str = "ok"  # ok | refused | missing
    reason: str | None = None
    layer_no: int = -1
    version: int = 3
    cluster_bits: int = 16
    virtual_size: int = 0
    incompatible_features: int = 0
    compatible_features: int = 0
    autoclear_features: int = 0
    extended_l2: bool = False
    compression_type: str = "zlib"
    refcount_bits: int = 16
    l1_entries: int = 0
    l1_offset: int = 0
    l2_tables: int = 0
    metadata_bytes: int = 0  # header, L1 and L2 as stored
    bitmaps: int = 0
    snapshots: int = 0
    data_bytes: int = 0  # guest bytes of plain data
    zero_bytes: int = 0  # guest bytes that an entry of this layer makes zero
    compressed_bytes: int = 0  # guest bytes stored compressed
    stored_bytes: int = 0  # host bytes of data and compressed clusters
    extents: int = 0  # rows of the extents dataset
    requests_per_day: float = 0.0  # served by this layer to guests
    remote_bytes_per_day: float = 0.0  # fetched from this layer's region by other regions

    @property
    def cluster_size(self) -> int:
        """Bytes of one cluster."""
        return 1 << self.cluster_bits

    @property
    def table_bytes(self) -> int:
        """Memory that QEMU spends on this layer's tables when all of them are touched."""
        return self.l1_entries * 8 + min(self.l2_tables * self.cluster_size, L2_CACHE_BYTES)

    @property
    def allocated_bytes(self) -> int:
        """Guest bytes that this layer decides, zeros included."""
        return self.data_bytes + self.zero_bytes + self.compressed_bytes

    def ref(self) -> LayerRef:
        """The layer as a plan names it."""
        return LayerRef(self.layer_id, self.region, self.etag, self.size_bytes)


@dataclass(frozen=True, slots=True)
class Steal:
    """`bytes` that layer `lower` stores and `upper`, the nearest layer above that decides the same place, hides.

    Positions are indexes into the chain (0 = tip), `upper < lower`. What a merge of i..j frees is the sum over the
    pairs inside i..j; what it keeps is the sum of stored bytes less that.
    """

    upper: int
    lower: int
    bytes: int


@dataclass(frozen=True, slots=True)
class HeadInput:
    """A head and the size of its chain: enough to skip most disks without looking at their layers."""

    disk_id: str
    tip: str
    home_region: str
    kind: str = "disk"  # disk | snapshot
    state: str = "idle"  # idle | running
    status: str = "ok"  # ok | dangling | cycle | missing_backing | refused (unreadable record)
    detail: str = ""
    generation: int = 1
    etag: str = ""
    virtual_size: int = 0
    chain_layers: int = 1  # from the tip to the base
    private_layers: int = 1  # from the tip down: reached by no other head, no live fork
    parent_bytes: int = 0  # object size of the tip's parent, 0 if there is none
    remote_layers: int = 0  # layers outside the home region
    stored_bytes: int = 0  # of the private part
    shadowed_bytes: int = 0  # of the private part: hidden by a layer above
    lease_action: str | None = None
    lease_expires_at: str | None = None  # ISO 8601, UTC
    failed_at: str | None = None  # ISO 8601, UTC: its last action ended then, without a result
    failure: str = ""  # why


@dataclass(frozen=True, slots=True)
class ChainInput:
    """One disk's chain."""

    head: HeadInput
    layers: tuple[LayerInput, ...]
    steals: tuple[Steal, ...] = ()  # inside the private part only

    @property
    def private(self) -> tuple[LayerInput, ...]:
        """The layers that a merge may replace."""
        return self.layers[: self.head.private_layers]


@dataclass(frozen=True, slots=True)
class Prices:
    """What moving bytes costs. Missing pairs cost nothing in money and `remote_rtt_seconds` in time."""

    egress_usd_per_gb: dict[str, dict[str, float]] = field(
        default_factory=dict
    )  # source -> reader -> USD per 10^9 bytes
    storage_usd_per_gb_month: dict[str, float] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)  # region -> store service and account
    local_rtt_seconds: float = 0.002
    remote_rtt_seconds: float = 0.080

    def egress_usd(self, source: str, reader: str, count_bytes: float) -> float:
        """Money for moving bytes from one region to another."""
        if source == reader:
            return 0.0
        return self.egress_usd_per_gb.get(source, {}).get(reader, 0.0) * count_bytes / 1e9

    def storage_usd_per_month(self, region: str, count_bytes: float) -> float:
        """Money for keeping bytes a month."""
        return self.storage_usd_per_gb_month.get(region, 0.023) * count_bytes / 1e9

    def copies(self, source: str, target: str) -> bool:
        """Can the target's store copy ranges of the source's objects itself?"""
        return source == target or self.services.get(source, "") == self.services.get(target, "")

    def rtt_seconds(self, source: str, reader: str) -> float:
        """One round trip between a reader and a store."""
        return self.local_rtt_seconds if source == reader else self.remote_rtt_seconds


@dataclass(frozen=True, slots=True)
class Tools:
    """What the workers can run. Versions as tuples, e.g. (7, 2, 22)."""

    qemu: tuple[int, ...] = (7, 2, 22)
    engines: frozenset[str] = frozenset({"rebase", "stream", "compose"})  # built and allowed here


@dataclass(frozen=True, slots=True)
class FleetInput:
    """Everything that a plan depends on.

    `chains` is walked once: an iterator keeps a large fleet out of memory. `heads` are disks whose layers were not
    loaded, because `tasks.plan.candidates.screen` has no use for them: each ends as a skip.
    """

    snapshot_id: str
    chains: Iterable[ChainInput]
    policy: Policy
    now: str  # ISO 8601, UTC
    heads: Iterable[HeadInput] = ()
    requested: frozenset[str] = frozenset()  # disks that a person asked for: length, window and worth do not matter
    prices: Prices = field(default_factory=Prices)
    tools: Tools = field(default_factory=Tools)
