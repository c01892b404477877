"""actions/*.json to the `receipts` dataset: finished actions, flattened from their JSON (see tasks.execute.receipt)."""

import datetime
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from tasks.errors import NotFound, Permanent
from tasks.inventory.heads_rows import MALFORMED, READ_THREADS, get_small, list_all
from tasks.inventory.schema import RECEIPTS
from tasks.store import keys
from tasks.store.base import ObjectInfo, ObjectStore

logger = logging.getLogger(__name__)

# What was read: unchanged actions are not read again. An action may be rewritten until it is done, so by ETag.
SEEN = pa.schema([("key", pa.string()), ("etag", pa.string())])


def read_receipts(control: ObjectStore, last: pa.Table, seen: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The dataset and the new list of what was read. An action that was deleted keeps its row: it is history."""
    before = dict(zip(seen["key"].to_pylist(), seen["etag"].to_pylist(), strict=True))
    listed = [item for item in list_all(control, keys.ACTIONS) if item.key.endswith(".json")]
    changed = [item for item in listed if before.get(item.key) != item.etag]
    if not changed and len(before) == len(listed):
        return last, seen
    unread: set[str] = set()
    with ThreadPoolExecutor(READ_THREADS) as pool:
        fresh = [row for row in pool.map(lambda item: _read(control, item, unread), changed) if row is not None]
    replaced = {row["action_id"] for row in fresh}
    rows = [row for row in last.to_pylist() if row["action_id"] not in replaced] + fresh
    rows.sort(key=lambda row: str(row["action_id"]))
    read = [item for item in listed if item.key not in unread]
    now_seen = pa.table({"key": [item.key for item in read], "etag": [item.etag for item in read]}, schema=SEEN)
    return pa.Table.from_pylist(rows, schema=RECEIPTS), now_seen


def _read(control: ObjectStore, item: ObjectInfo, unread: set[str]) -> dict[str, Any] | None:
    """The row, or None: under way, gone, not a receipt, or (noted in `unread`, tried again) denied by the store."""
    try:
        raw = json.loads(get_small(control, item.key)[0])
        row = _row(raw) if raw["state"] == "done" else None
        if row:  # a value of a wrong type must not spoil the whole table
            pa.Table.from_pylist([row], schema=RECEIPTS)
        return row
    except NotFound:
        return None
    except Permanent as error:
        logger.warning("%s: not read: %s", item.key, error)
        unread.add(item.key)
        return None
    except MALFORMED as error:
        logger.warning("%s: not a receipt: %s", item.key, error)
        return None


def _row(raw: dict[str, Any]) -> dict[str, Any]:
    action, actual = raw["action"], raw.get("actual") or {}
    predicted, benefit = action.get("cost") or {}, action.get("benefit") or {}
    replaced = _replaced(action) if raw.get("outcome") == "published" else []
    return {
        "action_id": str(action["action_id"]),
        "disk_id": str(action["disk_id"]),
        "engine": str(action["engine"]),
        "outcome": raw.get("outcome"),
        "reason": raw.get("reason") or None,
        "finished_at": _time(raw.get("finished_at")),
        "layers_before": raw.get("layers_before"),
        "layers_after": raw.get("layers_after"),
        "predicted_read_bytes": _total(predicted, "read_bytes"),
        "actual_read_bytes": _total(actual, "read_bytes"),
        "predicted_write_bytes": _total(predicted, "write_bytes"),
        "actual_write_bytes": _total(actual, "write_bytes"),
        "predicted_freed_bytes": benefit.get("freed_bytes"),
        "replaced_layer_ids": [str(layer["layer_id"]) for layer in replaced],
        "replaced_bytes": sum(int(layer["size_bytes"]) for layer in replaced),
        "new_bytes": _new_bytes(raw),
        "predicted_seconds": predicted.get("seconds"),
        "actual_seconds": actual.get("seconds"),
        "egress_usd": actual.get("egress_usd"),
    }


def _replaced(action: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers that a new one stands for: those of the run, and those above it that got a new header."""
    return [*action.get("run", ()), *action.get("above", ())]


def _new_bytes(raw: dict[str, Any]) -> int | None:
    """What the attempt that published wrote, as it noted before it published."""
    extra = raw.get("extra") or {}
    facts = (extra.get("ready") or {}).get(extra.get("published_by")) or {}
    return facts.get("new_bytes")


def _total(cost: dict[str, Any], field: str) -> int | None:
    """Bytes of all regions."""
    by_region = cost.get(field)
    return None if by_region is None else sum(int(count) for count in by_region.values())


def _time(text: str | None) -> datetime.datetime | None:
    if not text:
        return None
    found = datetime.datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
