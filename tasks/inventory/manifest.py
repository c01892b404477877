"""The manifest in the control bucket: the current snapshot, and the one write that makes a snapshot current.

    manifests/current.json                   pointer, swung by conditional write
    manifests/<snapshot_id>/snapshot.json    the file list (tasks.inventory.snapshot)
    manifests/<snapshot_id>/<dataset>-*.parquet
    manifests/staging/<scan_id>/…            parts of a scan that is under way

Readers see the old snapshot or the new one, never a mixture: files never change, and the pointer is written last.
"""

import json
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from tasks import clock
from tasks.errors import ChainwrightError, NotFound, OutcomeUnknown, Permanent, PreconditionFailed, Transient
from tasks.inventory.snapshot import Snapshot, snapshot_from_json, snapshot_to_json
from tasks.inventory.staging import stage
from tasks.store import keys
from tasks.store.base import ObjectStore

__all__ = ["CURRENT", "Pointer", "current_snapshot", "load_snapshot", "new_snapshot_id", "publish_snapshot", "stage"]

CURRENT = f"{keys.MANIFESTS}current.json"
STAGING = f"{keys.MANIFESTS}staging/"


@dataclass(frozen=True, slots=True)
class Pointer:
    """`manifests/current.json` as it was read. `etag` is None if there is none yet."""

    snapshot_id: str | None
    attempt_id: str
    etag: str | None


def new_snapshot_id() -> str:
    """Sorts by time; unique."""
    return f"{clock.now():%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"


def snapshot_key(snapshot_id: str) -> str:
    """Key of a snapshot's record."""
    return f"{keys.MANIFESTS}{snapshot_id}/snapshot.json"


def read_pointer(control: ObjectStore) -> Pointer:
    """The pointer; Permanent if it is not readable as one."""
    try:
        body, info = control.get(CURRENT)
    except NotFound:
        return Pointer(None, "", None)
    try:
        raw = json.loads(body)
        return Pointer(str(raw["snapshot_id"]), str(raw["attempt_id"]), info.etag)
    except (ValueError, KeyError, TypeError) as error:
        raise Permanent(f"{CURRENT}: not a manifest pointer: {error}") from None


def load_snapshot(control: ObjectStore, snapshot_id: str) -> Snapshot:
    """The snapshot of that id. NotFound if it is not (or no longer) there."""
    key = snapshot_key(snapshot_id)
    return snapshot_from_json(control.get(key)[0], key)


def current_snapshot(control: ObjectStore) -> Snapshot | None:
    """The newest snapshot; None before the first scan."""
    pointer = read_pointer(control)
    return load_snapshot(control, pointer.snapshot_id) if pointer.snapshot_id else None


def history(control: ObjectStore, limit: int) -> Iterator[Snapshot]:
    """Snapshots from the newest back through their parents, as far as they are kept."""
    snapshot = current_snapshot(control)
    for _ in range(limit):
        if snapshot is None:
            return
        yield snapshot
        if snapshot.parent_id is None:
            return
        try:
            snapshot = load_snapshot(control, snapshot.parent_id)
        except NotFound:
            return


def publish_snapshot(control: ObjectStore, snapshot: Snapshot, over: Pointer) -> None:
    """Make `snapshot` the current one, if `over` still is.

    PreconditionFailed: another was published first; nothing changed. OutcomeUnknown: see promise 4. The files that the
    snapshot names must be uploaded before.
    """
    control.put_new(snapshot_key(snapshot.snapshot_id), snapshot_to_json(snapshot))
    attempt_id = secrets.token_hex(16)
    body = json.dumps(
        {"snapshot_id": snapshot.snapshot_id, "attempt_id": attempt_id, "created_at": snapshot.created_at}
    ).encode()
    try:
        if over.etag is None:
            control.put_new(CURRENT, body)
        else:
            control.put_if_match(CURRENT, body, over.etag)
    except (PreconditionFailed, Transient, Permanent, OutcomeUnknown) as error:
        _settle(control, attempt_id, error)


def _settle(control: ObjectStore, attempt_id: str, error: ChainwrightError) -> None:
    """The write answered with an error: was it done all the same?"""
    try:
        found = read_pointer(control)
    except ChainwrightError:
        raise OutcomeUnknown(f"{CURRENT}: {error}; and it cannot be read back") from error
    if found.attempt_id == attempt_id:
        return
    if isinstance(error, PreconditionFailed):
        raise error
    raise PreconditionFailed(f"{CURRENT}: not written: {error}") from error


def own_keys(snapshot: Snapshot) -> list[str]:
    """Keys that were written for this snapshot and no other: what a publication that lost removes."""
    own = f"{keys.MANIFESTS}{snapshot.snapshot_id}/"
    refs = [ref for group in (snapshot.datasets, snapshot.internal) for files in group.values() for ref in files]
    return [snapshot_key(snapshot.snapshot_id), *(ref.key for ref in refs if ref.key.startswith(own))]


def discard(control: ObjectStore, key_list: list[str]) -> None:
    """Delete files of our own that nothing refers to. Errors are ignored: a leftover is found and named later."""
    for key in key_list:
        with suppress(ChainwrightError):
            control.delete(key)
