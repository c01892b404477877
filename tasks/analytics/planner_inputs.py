"""From a staged manifest to the planner's values. Layers are loaded only for disks that pass the first look."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from tasks.analytics.queries import run_arrow
from tasks.analytics.sqlfiles import load
from tasks.chain.extent import COLUMNS, Extents
from tasks.errors import NotFound
from tasks.plan.candidates import screen
from tasks.plan.inputs import ChainInput, FleetInput, HeadInput, LayerInput, Prices, Steal, Tools
from tasks.plan.policy import Policy
from tasks.plan.steps import Skip
from tasks.settings import Fleet

BATCH_DISKS = 20_000  # whose chains are in memory at once
_HEAD_COLUMNS = (
    "disk_id", "tip_layer_id", "home_region", "kind", "state", "status", "detail", "generation", "etag",
    "virtual_size", "chain_layers", "private_layers", "parent_bytes", "remote_layers", "stored_bytes",
    "shadowed_bytes",
)  # fmt: skip
_LAYER_COLUMNS = (
    "layer_id", "region", "etag", "size_bytes", "status", "reason", "layer_no", "version", "cluster_bits",
    "virtual_size", "incompatible_features", "compatible_features", "autoclear_features", "extended_l2",
    "compression_type", "refcount_bits", "l1_entries", "l1_offset", "l2_tables", "metadata_bytes", "bitmaps",
    "snapshots", "data_bytes", "zero_bytes", "compressed_bytes", "stored_bytes", "extents",
    "requests_per_day", "remote_bytes_per_day",
)  # fmt: skip
_TEXTS = {"layer_id", "region", "etag", "status", "reason", "compression_type"}


@dataclass(frozen=True, slots=True)
class Request:
    """What to plan for. `disks` empty: the whole fleet; otherwise a person asked for exactly these."""

    snapshot_id: str
    now: str
    policy: Policy
    disks: tuple[str, ...] = ()
    tools: Tools = field(default_factory=Tools)


def fleet_input(connection: duckdb.DuckDBPyConnection, fleet: Fleet, request: Request) -> FleetInput:
    """The values of `tasks.plan.builder.build_plan`. Chains are read from the connection while they are walked.

    Raises NotFound for a requested disk that the manifest does not know.
    """
    regions = frozenset(region.name for region in fleet.regions)
    heads = {disk: _placed(row, regions) for disk, row in _heads(connection).items()}
    asked = frozenset(request.disks)
    for disk in request.disks:
        if disk not in heads:
            raise NotFound(f"no disk {disk!r} in manifest {request.snapshot_id}")
    chosen = {disk: heads[disk] for disk in request.disks} if asked else heads
    wanted: list[_HeadRow] = []
    rest: list[_HeadRow] = []
    for disk, row in chosen.items():
        verdict = screen(row.head, request.policy, request.now, disk in asked)
        (rest if isinstance(verdict, Skip) else wanted).append(row)
    return FleetInput(
        snapshot_id=request.snapshot_id,
        chains=_chains(connection, wanted, regions),
        policy=request.policy,
        now=request.now,
        heads=tuple(row.head for row in rest),
        requested=asked,
        prices=prices_of(fleet),
        tools=request.tools,
    )


def _placed(row: "_HeadRow", regions: frozenset[str]) -> "_HeadRow":
    """A head whose home left the fleet is not ok: no task would ever run there."""
    if row.head.status != "ok" or row.head.home_region in regions:
        return row
    detail = f"its home {row.head.home_region} is no region of this fleet"
    return replace(row, head=replace(row.head, status="unknown_region", detail=detail))


def prices_of(fleet: Fleet) -> Prices:
    """The fleet's price matrix."""
    return Prices(
        egress_usd_per_gb={region.name: dict(region.egress_usd_per_gb) for region in fleet.regions},
        storage_usd_per_gb_month={region.name: region.storage_usd_per_gb_month for region in fleet.regions},
        services={region.name: _service(fleet, region.name) for region in fleet.regions},
    )


def _service(fleet: Fleet, name: str) -> str:
    """The first region whose objects this region's store can copy: the same for all regions of one service."""
    return next(region.name for region in fleet.regions if fleet.copies_between(region.name, name))


def extents_of(connection: duckdb.DuckDBPyConnection, layer_nos: Sequence[int]) -> dict[int, Extents]:
    """The extents of some layers, by layer number; a layer without extents has empty ones."""
    table = run_arrow(connection, load("plan", "extents"), {"layer_nos": list(layer_nos)})
    columns = [table[name].to_numpy() for name in ("layer_no", *COLUMNS)]
    found = {}
    for number in layer_nos:
        low, high = np.searchsorted(columns[0], [number, number + 1])
        start, length, kind, host_offset, host_length = (column[low:high] for column in columns[1:])
        found[number] = Extents(start, length, kind.astype(np.int8), host_offset, host_length)
    return found


@dataclass(frozen=True, slots=True)
class _HeadRow:
    head: HeadInput
    tip_no: int | None


def _heads(connection: duckdb.DuckDBPyConnection) -> dict[str, _HeadRow]:
    table = run_arrow(connection, load("plan", "heads"))
    columns = [table[name].to_pylist() for name in _HEAD_COLUMNS]
    tips = table["tip_no"].to_pylist()
    failures = {row["disk_id"]: row for row in run_arrow(connection, load("plan", "failures")).to_pylist()}
    rows = (_HeadRow(HeadInput(*values), tip) for values, tip in zip(_rows(columns), tips, strict=True))
    return {row.head.disk_id: _with_failure(row, failures.get(row.head.disk_id)) for row in rows}


def _with_failure(row: _HeadRow, failure: Mapping[str, Any] | None) -> _HeadRow:
    if failure is None or failure["failed_at"] is None:
        return row
    at = failure["failed_at"].astimezone(datetime.UTC).isoformat()
    return replace(row, head=replace(row.head, failed_at=at, failure=failure["failure"]))


def _rows(columns: Sequence[Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    return zip(*columns, strict=True)


def _chains(
    connection: duckdb.DuckDBPyConnection, wanted: Sequence[_HeadRow], regions: frozenset[str]
) -> Iterator[ChainInput]:
    for first in range(0, len(wanted), BATCH_DISKS):
        batch = wanted[first : first + BATCH_DISKS]
        yield from _Batch.load(connection, batch, regions).chains(batch)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Layers by number, the parent of each, and what private layers hide of each other."""

    layers: Mapping[int, LayerInput]
    parent: Mapping[int, int | None]
    steals: Mapping[int, Sequence[tuple[int, int]]]  # upper -> (lower, bytes)

    @classmethod
    def load(
        cls, connection: duckdb.DuckDBPyConnection, batch: Sequence[_HeadRow], regions: frozenset[str]
    ) -> "_Batch":
        disks = [row.head.disk_id for row in batch]
        table = run_arrow(connection, load("plan", "layers"), {"disk_ids": disks})
        layers = {layer.layer_no: _reachable(layer, regions) for layer in _layers(table)}
        parent = dict(zip(table["layer_no"].to_pylist(), table["parent_no"].to_pylist(), strict=True))
        private = [number for row in batch for number in _walk(row, parent, row.head.private_layers)]
        pairs = run_arrow(connection, load("plan", "steals"), {"layer_nos": private})
        steals: dict[int, list[tuple[int, int]]] = {}
        for upper, lower, count in _rows([pairs[name].to_pylist() for name in pairs.column_names]):
            steals.setdefault(upper, []).append((lower, count))
        return cls(layers, parent, steals)

    def chains(self, batch: Sequence[_HeadRow]) -> Iterator[ChainInput]:
        for row in batch:
            numbers = _walk(row, self.parent, row.head.chain_layers)
            place = {number: k for k, number in enumerate(numbers[: row.head.private_layers])}
            steals = tuple(
                Steal(k, place[lower], count)
                for number, k in place.items()
                for lower, count in self.steals.get(number, ())
                if lower in place
            )
            yield ChainInput(row.head, tuple(self.layers[number] for number in numbers), steals)


def _walk(row: _HeadRow, parent: Mapping[int, int | None], limit: int) -> list[int]:
    """Layer numbers from the tip down, at most `limit`."""
    numbers: list[int] = []
    at = row.tip_no
    while at is not None and len(numbers) < limit:
        numbers.append(at)
        at = parent[at]
    return numbers


def _reachable(layer: LayerInput, regions: frozenset[str]) -> LayerInput:
    """A layer in a region that left the fleet cannot be read."""
    if layer.status != "ok" or layer.region in regions:
        return layer
    return replace(layer, status="refused", reason=f"unknown_region {layer.region}")


def _layers(table: pa.Table) -> Iterator[LayerInput]:
    """Nulls (of refused and missing layers) become the field's zero."""
    columns = []
    for name in _LAYER_COLUMNS:
        blank: Any = "" if name in _TEXTS else 0
        values = table[name].to_pylist()
        columns.append(values if name == "reason" else [blank if value is None else value for value in values])
    return (LayerInput(*values) for values in _rows(columns))
