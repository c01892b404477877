"""Remove manifest snapshots that nobody needs any more. Only the manifest's own files, never a layer.

Kept: the newest KEEP_SNAPSHOTS, everything younger than KEEP_DAYS by the store's clock, every file that a kept snapshot
names. If anything of that cannot be read, nothing is deleted.
"""

import datetime
import logging
from collections.abc import Sequence

from tasks.inventory import manifest
from tasks.inventory.heads_rows import list_all
from tasks.inventory.snapshot import FileRef, Snapshot
from tasks.store import keys
from tasks.store.base import ObjectInfo, ObjectStore

logger = logging.getLogger(__name__)

KEEP_SNAPSHOTS = 100  # four days of hourly scans
KEEP_DAYS = 7.0  # and nothing younger: a plan, a page or a person may still read it
MAX_DELETES = 10_000  # per run


def expire(control: ObjectStore) -> list[str]:
    """Delete what is too old; the keys. Cheap if there is nothing to do. Raises the store's errors."""
    listed = [item for item in list_all(control, keys.MANIFESTS) if item.key != manifest.CURRENT]
    current = manifest.current_snapshot(control)
    if current is None:
        return []
    old = _old_keys(listed, current)
    if not old:
        return []
    snapshots = [_load(control, item.key) for item in listed if _is_record(item.key) and item.key not in old]
    needed = {ref.key for snapshot in snapshots for ref in _refs(snapshot)}
    doomed = sorted(old - needed)[:MAX_DELETES]
    for key in doomed:
        control.delete(key)
    if doomed:
        logger.info("%s files of old manifest snapshots removed", len(doomed))
    return doomed


def _old_keys(listed: Sequence[ObjectInfo], current: Snapshot) -> set[str]:
    """Keys of folders that are neither among the newest nor young, without what the current snapshot names."""
    if not listed:
        return set()
    now = max(item.last_modified for item in listed)
    limit = now - datetime.timedelta(days=KEEP_DAYS)
    ids = sorted({_folder(item.key) for item in listed if _is_record(item.key)})
    newest = {*ids[-KEEP_SNAPSHOTS:], current.snapshot_id}
    young = {_folder(item.key) for item in listed if item.last_modified >= limit}
    named = {ref.key for ref in _refs(current)}
    return {item.key for item in listed if _folder(item.key) not in newest | young and item.key not in named}


def _folder(key: str) -> str:
    """The snapshot's id, or `staging/<scan_id>`."""
    parts = key.removeprefix(keys.MANIFESTS).split("/")
    return "/".join(parts[:2]) if parts[0] == "staging" else parts[0]


def _is_record(key: str) -> bool:
    return key.endswith("/snapshot.json")


def _load(control: ObjectStore, key: str) -> Snapshot:
    return manifest.load_snapshot(control, _folder(key))


def _refs(snapshot: Snapshot) -> list[FileRef]:
    return [ref for group in (snapshot.datasets, snapshot.internal) for refs in group.values() for ref in refs]
