"""heads/*.json to the `heads` dataset. Records with an unchanged ETag are not read again."""

import datetime
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from tasks import retry
from tasks.chain.head import Head, head_from_json
from tasks.chain.layer import DISK_ID
from tasks.errors import NotFound, Permanent
from tasks.inventory.rows import OK, REFUSED
from tasks.inventory.schema import HEADS
from tasks.store import keys
from tasks.store.base import ObjectInfo, ObjectStore

logger = logging.getLogger(__name__)

READ_THREADS = 16
DANGLING = "dangling"
UNREADABLE = "unreadable"  # tried again by the next scan
# What reading a record of a wrong shape raises.
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def read_heads(control: ObjectStore, last: pa.Table) -> pa.Table:
    """All heads, without `tip_no` and with status ok or refused; `link_heads` finishes them."""
    known = {row["disk_id"]: row for row in last.to_pylist()}
    listed = list_all(control, keys.HEADS)

    def read(item: ObjectInfo) -> dict[str, Any] | None:
        old = known.get(_disk_id(item.key))
        same = old is not None and old["etag"] == item.etag and old["reason"] != UNREADABLE
        return old if same else _read(control, item)

    with ThreadPoolExecutor(READ_THREADS) as pool:
        rows = [row for row in pool.map(read, listed) if row is not None]
    return pa.Table.from_pylist(rows, schema=HEADS)


def list_all(store: ObjectStore, prefix: str) -> list[ObjectInfo]:
    """A whole listing, begun anew if a page fails for good."""
    for attempt in retry.store_call():
        with attempt:
            return list(store.list(prefix))
    raise AssertionError


def get_small(store: ObjectStore, key: str) -> tuple[bytes, ObjectInfo]:
    """A small record, retried."""
    for attempt in retry.store_call():
        with attempt:
            return store.get(key)
    raise AssertionError


def _disk_id(key: str) -> str:
    return key.removeprefix(keys.HEADS).removesuffix(".json")


def _read(control: ObjectStore, item: ObjectInfo) -> dict[str, Any] | None:
    disk_id = _disk_id(item.key)
    try:
        body, info = get_small(control, item.key)
    except NotFound:
        return None  # deleted since it was listed
    except Permanent as error:  # denied, archived: it says nothing of the record
        logger.warning("head=%s not read: %s", disk_id, error)
        return {"disk_id": disk_id, "etag": item.etag, "status": REFUSED, "reason": UNREADABLE}
    try:
        head = head_from_json(json.loads(body))
        _check(head, disk_id, item.key)
        row = _row(head, info.etag)
        pa.Table.from_pylist([row], schema=HEADS)  # a value of a wrong type must not spoil the whole table
        return row
    except (*MALFORMED, Permanent) as error:
        logger.warning("head=%s refused: %s", disk_id, error)
        reason = "bad_name" if isinstance(error, Permanent) else "bad_record"
        return {"disk_id": disk_id, "etag": item.etag, "status": REFUSED, "reason": reason}


def _check(head: Head, disk_id: str, key: str) -> None:
    if head.disk_id != disk_id or not DISK_ID.fullmatch(disk_id) or not key.endswith(".json"):
        raise Permanent(f"{key} is of disk {head.disk_id!r}")
    texts = (head.tip, head.kind, head.home_region, head.state)
    if not all(isinstance(text, str) for text in texts) or not 0 <= head.generation < 1 << 63:
        raise ValueError("a field has the wrong type")


def _row(head: Head, etag: str) -> dict[str, Any]:
    updated = datetime.datetime.fromisoformat(head.updated_at) if head.updated_at else None
    return {
        "disk_id": head.disk_id,
        "tip_layer_id": head.tip,
        "kind": head.kind,
        "home_region": head.home_region,
        "state": head.state,
        "generation": head.generation,
        "action_id": head.action_id,
        "virtual_size": head.virtual_size,
        "etag": etag,
        "updated_at": updated if updated is None or updated.tzinfo else updated.replace(tzinfo=datetime.UTC),
        "status": OK,
        "reason": None,
    }


def link_heads(heads: pa.Table, numbers: Sequence[int | None]) -> pa.Table:
    """Set `tip_no` (None: no such layer) and from it the status of every readable head."""
    rows = heads.to_pylist()
    for row, number in zip(rows, numbers, strict=True):
        row["tip_no"] = number
        if row["status"] != REFUSED:
            row["status"] = OK if number is not None else DANGLING
            row["reason"] = None if number is not None else "no_such_layer"
    return pa.Table.from_pylist(rows, schema=HEADS)
