"""The rows of all regions together: numbers, parents, what is missing. Pure Arrow: tables in, tables out."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.chain import qcow2_reasons as why
from tasks.inventory.rows import MISSING, OK, REFUSED
from tasks.inventory.schema import LAYERS
from tasks.store import keys


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that one shard's scan found: `layers` with layer_no counted from 0, keys that are gone."""

    region: str
    layers: pa.Table
    gone: list[str]


@dataclass(frozen=True, slots=True)
class Merged:
    """All layers after a scan. `firsts` has for each part the layer_no that its number 0 got."""

    layers: pa.Table
    removed: pa.Table  # rows of the last snapshot that are gone or replaced
    next_layer_no: int
    firsts: list[int]


def merge_parts(last: pa.Table, parts: list[Part], next_no: int, now: datetime.datetime) -> Merged:
    """Apply the parts to the last snapshot's rows. New rows get numbers that were never used.

    A row that the snapshot has already with the same ETag is kept as it is (the part is of a repeated scan).
    """
    kept, removed, firsts, fresh = last, [], [], []
    for part in parts:
        new = _not_yet_known(kept, part)
        firsts.append(next_no)
        numbers = pc.add(part.layers["layer_no"], next_no)
        numbered = _with(part.layers, "layer_no", numbers.cast(pa.int32()))
        numbered = _with(numbered, "first_seen", pa.array([now] * len(numbered), pa.timestamp("us", "UTC")))
        fresh.append(numbered.filter(new))
        next_no += len(part.layers)
        stale = pa.array([*part.gone, *fresh[-1]["key"].to_pylist()], pa.string())
        hit = pc.and_(pc.equal(kept["region"], part.region), pc.is_in(kept["key"], value_set=stale))
        hit = pc.and_(hit, pc.not_equal(kept["status"], MISSING))
        removed.append(kept.filter(hit))
        kept = kept.filter(pc.invert(hit))
    return Merged(pa.concat_tables([kept, *fresh]), pa.concat_tables([last[:0], *removed]), next_no, firsts)


def _not_yet_known(kept: pa.Table, part: Part) -> pa.Array:
    mine = kept.filter(pc.and_(pc.equal(kept["region"], part.region), pc.not_equal(kept["status"], MISSING)))
    known = dict(
        zip(
            mine["key"].to_pylist(),
            zip(mine["etag"].to_pylist(), mine["reason"].to_pylist(), mine["status"].to_pylist(), strict=True),
            strict=True,
        )
    )
    return pa.array(
        [
            known.get(key) != (etag, reason, status)
            for key, etag, reason, status in zip(
                *(part.layers[name].to_pylist() for name in ("key", "etag", "reason", "status")), strict=True
            )
        ],
        pa.bool_(),
    )


def link_layers(merged: Merged, tips: Iterable[str], now: datetime.datetime) -> Merged:
    """Set `parent_no`; keep or make rows of status `missing` for what is referred to but not there."""
    objects = merged.layers.filter(pc.not_equal(merged.layers["status"], MISSING))
    objects = _mark_duplicates(objects)
    present = set(objects["layer_id"].to_pylist())
    wanted = {name for name in objects["backing_layer_id"].to_pylist() if name} | {tip for tip in tips if tip}
    old_missing = merged.layers.filter(pc.equal(merged.layers["status"], MISSING))
    known = {row["layer_id"]: row for row in (*merged.removed.to_pylist(), *old_missing.to_pylist())}
    vanished, next_no = _missing_rows(_lost(wanted, present, known), known, merged.next_layer_no, now)
    layers = pa.concat_tables([objects, vanished])
    layers = _with(layers, "parent_no", _numbers(objects, layers["backing_layer_id"]))
    order = pc.sort_indices(layers, [("layer_no", "ascending")])
    return Merged(layers.take(order), merged.removed, next_no, merged.firsts)


def numbers_of(layers: pa.Table, layer_ids: pa.ChunkedArray) -> list[int | None]:
    """layer_no of each id; None where no object has it."""
    objects = layers.filter(pc.not_equal(layers["status"], MISSING))
    found: list[int | None] = _numbers(objects, layer_ids).to_pylist()
    return found


def _numbers(objects: pa.Table, layer_ids: pa.ChunkedArray) -> pa.ChunkedArray:
    owners = objects.filter(pc.not_equal(pc.fill_null(objects["reason"], ""), why.DUPLICATE_ID))
    at = pc.index_in(layer_ids, value_set=owners["layer_id"].combine_chunks())
    return pc.take(owners["layer_no"], at)


def _mark_duplicates(objects: pa.Table) -> pa.Table:
    """Two objects with one layer id (copies in two regions): the first that was seen counts, the others are refused."""
    ids = objects["layer_id"].to_pylist()
    if len(set(ids)) == len(ids):
        return objects
    rows = sorted(objects.to_pylist(), key=lambda row: row["layer_no"])
    owner: dict[str, dict[str, Any]] = {}
    for row in rows:
        first = owner.setdefault(row["layer_id"], row)
        if first is not row:
            detail = f"{first['key']} in {first['region']} has the same id"
            row.update(status=REFUSED, reason=why.DUPLICATE_ID, detail=detail)
    return pa.Table.from_pylist(rows, schema=LAYERS)


def _lost(wanted: set[str], present: set[str], known: dict[str, dict[str, Any]]) -> set[str]:
    """What is referred to but not there, and what that was built on: retirement must know it should it come back."""
    found: set[str] = set()
    more = wanted - present
    while more:
        found |= more
        more = (
            {known[layer_id]["backing_layer_id"] for layer_id in more if layer_id in known} - present - found - {None}
        )
    return found


def _missing_rows(
    lost: set[str], known: dict[str, dict[str, Any]], next_no: int, now: datetime.datetime
) -> tuple[pa.Table, int]:
    """A row per lost id: the one of before, or that of the object that was there, or a bare one."""
    rows = []
    for layer_id in sorted(lost):
        row = known.get(layer_id)
        if row is None:
            row = {"layer_no": next_no, "layer_id": layer_id, "key": keys.layer(layer_id), "first_seen": now}
            row["reason"] = "never_seen"
            next_no += 1
        elif row["status"] != MISSING:
            row["reason"] = "disappeared"
        rows.append({**row, "status": MISSING})
    return pa.Table.from_pylist(rows, schema=LAYERS), next_no


def summarise(layers: pa.Table, heads: pa.Table) -> dict[str, int]:
    """Counts for people and for the result of a scan."""
    status = layers["status"].to_pylist()
    objects = layers.filter(pc.not_equal(layers["status"], MISSING))
    dangling = pc.and_(pc.is_valid(objects["backing_layer_id"]), pc.is_null(objects["parent_no"]))
    return {
        "layers": len(objects),
        "refused": status.count(REFUSED),
        "missing": status.count(MISSING),
        "dangling_backing": int(pc.sum(dangling).as_py() or 0),
        "size_bytes": int(pc.sum(objects["size_bytes"]).as_py() or 0),
        "extents": int(pc.sum(objects["extents"]).as_py() or 0),
        "heads": len(heads),
        "heads_not_ok": len(heads) - heads["status"].to_pylist().count(OK),
    }


def _with(table: pa.Table, name: str, column: Any) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), LAYERS.field(name), column)
