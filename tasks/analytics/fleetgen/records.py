"""Layers and heads of a made-up fleet as rows of the manifest, with what goes wrong in real ones."""

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.analytics.fleetgen.extents import Totals
from tasks.analytics.fleetgen.forest import REGIONS, Flags, Forest, Ints
from tasks.inventory.schema import HEADS, LAYERS

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
_REFUSALS = (
    ("backing_absolute", "backing_file=/etc/passwd"),
    ("external_data_file", "incompatible_features=0x4"),
    ("corrupt_bit", "incompatible_features=0x2"),
    ("l2_offset_beyond_end", "l1[17]=0x7f00000000"),
)
_HOSTILE_TEXTS = (
    '<img src=x onerror="document.title=1">',
    "'; DROP TABLE layers; --",
    "\u202eevil\u2066\u2069 \u0000 [red]x[/red] {{ 7*7 }}",
    "=cmd|' /C calc'!A0",
)


@dataclass(slots=True)
class Marks:
    """Which layers and disks have which trouble."""

    refused: Flags  # by layer
    lost_parent: Ints  # layers whose backing layer is not there
    cycles: Ints  # layers at the foot of a cycle: their backing layer is their own grandchild
    orphan: Flags  # by disk: no head


@dataclass(slots=True)
class Names:
    """Identities, by layer."""

    layer_no: Ints
    layer_id: NDArray[np.str_]
    created_us: Ints  # when the object was written


def make_marks(forest: Forest, rng: np.random.Generator) -> Marks:
    """A few of everything, at least one of each."""
    disks = len(forest.disk_first)
    orphan = rng.random(disks) < 0.02
    orphan[int(rng.integers(0, disks))] = True
    based = np.flatnonzero(forest.parent[forest.disk_first] >= 0)
    lost = rng.choice(based, max(1, int(len(based) * 0.0005)), replace=False)
    loose = np.flatnonzero((forest.parent[forest.disk_first] < 0) & (forest.disk_length >= 3))
    cycles = loose[: max(1, min(5, len(loose) // 3))]
    refused = (rng.random(forest.count) < 0.0003) & ~forest.is_base
    refused[int(rng.choice(np.flatnonzero(~forest.is_base)))] = True
    return Marks(refused, forest.disk_first[lost], forest.disk_first[cycles], orphan)


def make_names(forest: Forest, until: datetime.datetime, by_time: bool, rng: np.random.Generator) -> Names:
    """Random ids; layers of a chain are written one after the other, the tip lately. Numbers by tree or by time."""
    halves = rng.integers(0, 1 << 62, (forest.count, 2)).astype(np.uint64)
    ids = np.char.add(_hex(halves[:, 0]), _hex(halves[:, 1]))
    end = int(until.timestamp() * 1_000_000)
    step = (rng.lognormal(0, 1.0, len(forest.disk_first)) * 2 * DAY_US).astype(np.int64)
    from_tip = forest.disk_length[forest.disk] - 1 - forest.position
    age = from_tip * step[forest.disk] + (rng.random(forest.count) * DAY_US).astype(np.int64)
    oldest = 900 * DAY_US
    age = np.where(forest.is_base, oldest + rng.integers(0, 100, forest.count) * DAY_US, np.minimum(age, oldest))
    created = end - age
    rank = np.arange(forest.count)
    if by_time:
        rank[np.argsort(created, kind="stable")] = np.arange(forest.count)
    return Names(rank + 1, ids, created)


def _hex(values: NDArray[np.uint64]) -> NDArray[np.str_]:
    return np.char.mod("%016x", values)


def layer_table(forest: Forest, names: Names, marks: Marks, totals: Totals, hostile: bool) -> pa.Table:
    """Rows of `layers`: one per layer, and one `missing` row per backing layer that is not there."""
    parent = forest.parent.copy()
    parent[marks.cycles] = marks.cycles + 2
    ids, cluster = names.layer_id, 1 << forest.cluster_bits
    backing = np.where(parent >= 0, ids[np.maximum(parent, 0)], "")
    backing[marks.lost_parent] = np.char.mod("%032x", marks.lost_parent + 1)
    parent_no = np.where(parent >= 0, names.layer_no[np.maximum(parent, 0)], 0)
    missing_no = forest.count + 1 + np.arange(len(marks.lost_parent))
    parent_no[marks.lost_parent] = missing_no
    ok = ~marks.refused
    l1 = -(-forest.virtual_size // (cluster * (cluster // np.where(forest.extended, 16, 8))))
    metadata = cluster * (1 + totals.l2_tables) + -(-l1 * 8 // cluster) * cluster
    columns: dict[str, Any] = {
        "layer_no": names.layer_no,
        "layer_id": ids,
        "region": np.array(REGIONS)[forest.region],
        "key": np.char.add(np.char.add("layers/", ids), ".qcow2"),
        "etag": np.char.add(np.char.add('"', np.char.mod("%016x", names.created_us)), '"'),
        "size_bytes": totals.stored_bytes + metadata + 2 * cluster,
        "last_modified": names.created_us,
        "status": np.where(ok, "ok", "refused"),
        "version": np.full(forest.count, 3),
        "cluster_bits": forest.cluster_bits,
        "virtual_size": forest.virtual_size,
        "incompatible_features": np.where(forest.extended, 16, 0),
        "compatible_features": np.zeros(forest.count, np.int64),
        "autoclear_features": np.zeros(forest.count, np.int64),
        "extended_l2": forest.extended,
        "compression_type": np.full(forest.count, "zlib"),
        "refcount_bits": np.full(forest.count, 16),
        "l1_entries": l1,
        "l1_offset": 3 * cluster,
        "metadata_bytes": metadata,
        "bitmaps": np.zeros(forest.count, np.int64),
        "snapshots": np.zeros(forest.count, np.int64),
        "parent_no": pa.array(parent_no, pa.int32(), mask=parent_no == 0),
        "backing_layer_id": pa.array(backing, mask=backing == ""),
        "backing_format": pa.array(np.full(forest.count, "qcow2"), mask=backing == ""),
        "first_seen": names.created_us + HOUR_US // 2,
    }
    for name in ("extents", "data_bytes", "zero_bytes", "compressed_bytes", "stored_bytes", "l2_tables"):
        columns[name] = getattr(totals, name) * ok
    columns |= _reasons(marks.refused, hostile)
    arrays = [
        pa.array(columns[f.name]).cast(pa.int64()).cast(f.type) if _is_time(f) else _cast(columns[f.name], f)
        for f in LAYERS
    ]
    return pa.concat_tables([pa.table(arrays, schema=LAYERS), _missing(marks, missing_no, names, forest)])


def _is_time(field: pa.Field) -> bool:
    return bool(pa.types.is_timestamp(field.type))


def _cast(values: Any, field: pa.Field) -> pa.Array:
    return (values if isinstance(values, pa.Array) else pa.array(values)).cast(field.type)


def _reasons(refused: Flags, hostile: bool) -> dict[str, pa.Array]:
    number = np.cumsum(refused) % len(_REFUSALS)
    reason = np.array([code for code, _ in _REFUSALS])[number]
    texts = [text + (" " + _HOSTILE_TEXTS[i] if hostile else "") for i, (_, text) in enumerate(_REFUSALS)]
    detail = np.array(texts)[number]
    return {"reason": pa.array(reason, mask=~refused), "detail": pa.array(detail, mask=~refused)}


def _missing(marks: Marks, numbers: Ints, names: Names, forest: Forest) -> pa.Table:
    rows = [
        {
            "layer_no": int(number),
            "layer_id": f"{int(child) + 1:032x}",
            "region": REGIONS[int(forest.region[child])],
            "status": "missing",
            "reason": "not_found",
            "extents": 0,
            "first_seen": datetime.datetime.fromtimestamp(int(names.created_us[child]) / 1e6, datetime.UTC),
        }
        for number, child in zip(numbers, marks.lost_parent, strict=True)
    ]
    return pa.Table.from_pylist([{name: row.get(name) for name in LAYERS.names} for row in rows], schema=LAYERS)


@dataclass(slots=True)
class HeadSet:
    """Heads before they become rows: disks' tips, retained snapshots, blueprints."""

    disk_id: NDArray[np.str_]
    tip: Ints  # layer index
    kind: NDArray[np.str_]
    region: Ints


def make_heads(forest: Forest, marks: Marks, rng: np.random.Generator) -> HeadSet:
    """A head per disk that is no orphan; snapshots by four policies; most blueprints."""
    live = np.flatnonzero(~marks.orphan)
    share = rng.choice([0.0, 0.1, 0.5, 1.0], len(marks.orphan), p=[0.5, 0.3, 0.15, 0.05])
    own = np.flatnonzero(forest.disk >= 0)
    owner = forest.disk[own]
    inner = own != forest.disk_tip[owner]
    kept = own[(rng.random(len(own)) < share[owner]) & inner & ~marks.orphan[owner]]
    published = np.flatnonzero(rng.random(len(forest.base_tip)) < 0.65)
    snapshot = np.char.mod("%d", forest.position[kept])
    snapshot_id = np.char.add(np.char.add(_disk_ids(forest.disk[kept]), ".snap-"), snapshot)
    return HeadSet(
        np.concatenate([_disk_ids(live), snapshot_id, np.char.mod("blueprint-%05d", published)]),
        np.concatenate([forest.disk_tip[live], kept, forest.base_tip[published]]),
        np.repeat(np.array(["disk", "snapshot", "snapshot"]), [len(live), len(kept), len(published)]),
        np.concatenate(
            [forest.disk_region[live], forest.disk_region[forest.disk[kept]], forest.base_region[published]]
        ),
    )


def _disk_ids(disks: Ints) -> NDArray[np.str_]:
    return np.char.mod("vm-%06d", disks)


def head_table(heads: HeadSet, forest: Forest, names: Names, hostile: bool, rng: np.random.Generator) -> pa.Table:
    """Rows of `heads`, with one that points nowhere and one unreadable record (hostile: with hostile names)."""
    count = len(heads.tip)
    running = (rng.random(count) < 0.8) & (heads.kind == "disk")
    columns: dict[str, Any] = {
        "disk_id": heads.disk_id,
        "tip_layer_id": names.layer_id[heads.tip],
        "tip_no": names.layer_no[heads.tip],
        "kind": heads.kind,
        "home_region": np.array(REGIONS)[heads.region],
        "state": np.where(running, "running", "idle"),
        "generation": rng.integers(1, 500, count),
        "action_id": pa.nulls(count, pa.string()),
        "virtual_size": forest.virtual_size[heads.tip],
        "etag": np.char.mod('"%016x"', rng.integers(0, 1 << 62, count)),
        "updated_at": pa.array(names.created_us[heads.tip] + HOUR_US),
        "status": np.full(count, "ok"),
        "reason": pa.nulls(count, pa.string()),
    }
    table = pa.table([_cast(columns[field.name], field) for field in HEADS], schema=HEADS)
    texts = _HOSTILE_TEXTS if hostile else ("unreadable-record",)
    odd = [{"disk_id": text, "status": "refused", "reason": "bad_record", "generation": 0} for text in texts]
    odd.append(
        {
            "disk_id": "vm-without-layer",
            "tip_layer_id": "f" * 32,
            "kind": "disk",
            "home_region": REGIONS[0],
            "state": "idle",
            "generation": 1,
            "virtual_size": 1 << 30,
            "status": "dangling",
            "reason": "tip_missing",
        }
    )
    rows = [{name: row.get(name) for name in HEADS.names} for row in odd]
    return pa.concat_tables([table, pa.Table.from_pylist(rows, schema=HEADS)])
