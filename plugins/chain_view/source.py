"""Where snapshots come from: the control region's store, or a folder for trying the pages without a fleet."""

import datetime
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from tasks.analytics.derive import derive
from tasks.analytics.published import fetch_derived
from tasks.inventory import manifest
from tasks.inventory.snapshot import Snapshot
from tasks.inventory.staging import prune
from tasks.settings import Fleet, load_fleet
from tasks.store import keys
from tasks.store.base import ObjectInfo, ObjectStore
from tasks.store.connect import control_store

from .snapshots import Found, Source, Unpublished

MAX_STAGING = 1000  # files looked at
SNAPSHOTS_KEPT = 3  # requests may still read the one before
ENV_FOLDER = "CHAINWRIGHT_UI_MANIFEST"  # a manifest folder, e.g. of `chainwright dev generate-fleet`


def default_source() -> Source:
    """The folder that the environment names, otherwise the fleet's own store."""
    folder = os.environ.get(ENV_FOLDER)
    return FolderSource(Path(folder)) if folder else StoreSource()


class FolderSource:
    """One manifest folder, shown as it is."""

    def __init__(self, folder: Path, fleet: Fleet | None = None) -> None:
        self._folder = folder
        self._fleet = fleet

    def fleet(self) -> Fleet:
        """As given, otherwise $CHAINWRIGHT_FLEET."""
        return self._fleet or load_fleet()

    def current(self, fleet: Fleet) -> Found | None:  # noqa: ARG002 - as the protocol has it
        """The folder, as of when it was written."""
        if not self._folder.is_dir():
            return None
        moments = [file.stat().st_mtime for file in self._folder.glob("layers/*.parquet")]
        written = datetime.datetime.fromtimestamp(max(moments, default=0.0), datetime.UTC)
        return Found(self._folder.name, written, None)

    def unpublished(self, fleet: Fleet, published: Found | None) -> Unpublished | None:  # noqa: ARG002
        """Never."""
        return None

    def stage(self, fleet: Fleet, found: Found) -> Path:  # noqa: ARG002
        """It is here."""
        return self._folder


class StoreSource:
    """The real thing; see `snapshots.Source`."""

    def __init__(self) -> None:
        self._last: Path | None = None

    def fleet(self) -> Fleet:
        """$CHAINWRIGHT_FLEET, read anew each time: the operator may edit it."""
        return load_fleet()

    def current(self, fleet: Fleet) -> Found | None:
        """What `manifests/current.json` names."""
        snapshot = manifest.current_snapshot(control_store(fleet))
        if snapshot is None:
            return None
        return Found(snapshot.snapshot_id, datetime.datetime.fromisoformat(snapshot.created_at), snapshot)

    def unpublished(self, fleet: Fleet, published: Found | None) -> Unpublished | None:
        """Files of a snapshot, or of a scan, that are newer than the published snapshot."""
        control = control_store(fleet)
        after = f"{keys.MANIFESTS}{published.snapshot_id}0" if published else keys.MANIFESTS  # "0" sorts behind "/"
        files = itertools.chain(
            itertools.islice(_snapshot_files(control, after), 1),
            itertools.islice(control.list(manifest.STAGING), MAX_STAGING),
        )
        newer = [info for info in files if published is None or info.last_modified > published.created_at]
        if not newer:
            return None
        first = min(newer, key=lambda info: info.last_modified)
        name = first.key.removeprefix(manifest.STAGING).removeprefix(keys.MANIFESTS).partition("/")[0]
        return Unpublished(name, first.last_modified)

    def stage(self, fleet: Fleet, found: Found) -> Path:
        """Into the work directory's `ui` folder, with what is derived from it beside it."""
        assert isinstance(found.handle, Snapshot)
        control = control_store(fleet)
        directory = manifest.stage(control, found.handle, Path(fleet.work_dir) / "ui")
        if not fetch_derived(control, found.snapshot_id, directory):  # nobody has computed it yet
            derive(directory, self._last if self._last and self._last.is_dir() else None)
        prune(directory.parent.parent, SNAPSHOTS_KEPT)
        self._last = directory
        return directory


def _snapshot_files(control: ObjectStore, after: str) -> Iterator[ObjectInfo]:
    """Files of snapshots whose ids sort behind: ids begin with the year."""
    return (info for info in control.list(f"{keys.MANIFESTS}2", after) if info.key > after)
