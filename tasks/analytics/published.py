"""The derived datasets in the control bucket, next to the snapshot they were computed from.

manifests/<snapshot_id>/derived-<dataset>-<sha256>.parquet
manifests/<snapshot_id>/derived.json    the file list; written last and once, so a reader finds all or nothing
"""

import contextlib
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from tasks.analytics.derive import adopt, is_derived
from tasks.analytics.derived import DERIVED
from tasks.errors import NotFound, Permanent, PreconditionFailed
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.units import MIB

FORMAT = 1
_PIECE = 32 * MIB


def record_key(snapshot_id: str) -> str:
    """Key of the file list."""
    return f"{keys.MANIFESTS}{snapshot_id}/derived.json"


def publish_derived(control: ObjectStore, snapshot_id: str, directory: Path) -> bool:
    """Upload the derived datasets of a staged snapshot; False if somebody else did before. Safe to repeat."""
    files = []
    for name in DERIVED:
        for file in sorted((directory / name).glob("*.parquet")):
            digest = _sha256(file)
            key = f"{keys.MANIFESTS}{snapshot_id}/derived-{name}-{digest}.parquet"
            with contextlib.suppress(PreconditionFailed):  # the name says the content: it is there already
                control.upload_file(key, file)
            files.append({"dataset": name, "key": key, "bytes": file.stat().st_size, "sha256": digest})
    body = json.dumps({"format": FORMAT, "columns": _columns(), "files": files}, indent=1).encode()
    try:
        control.put_new(record_key(snapshot_id), body)
    except PreconditionFailed:
        return False
    return True


def fetch_derived(control: ObjectStore, snapshot_id: str, directory: Path) -> bool:
    """Lay the published derived datasets next to a staged snapshot; False if there are none of this version."""
    if is_derived(directory):
        return True
    files = _record(control, snapshot_id)
    if files is None:
        return False
    with tempfile.TemporaryDirectory(prefix=".derived-", dir=directory) as folder:
        for name in DERIVED:
            (Path(folder) / name).mkdir()
        for file in files:
            _fetch(control, file, Path(folder))
        adopt(Path(folder), directory)
    return is_derived(directory)


def _record(control: ObjectStore, snapshot_id: str) -> list[dict[str, Any]] | None:
    """The published files; None if there are none, or none of this version."""
    try:
        raw = json.loads(control.get(record_key(snapshot_id))[0])
    except (NotFound, ValueError):
        return None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT or raw.get("columns") != _columns():
        return None
    files = raw.get("files")
    return files if isinstance(files, list) else None


def _columns() -> dict[str, list[str]]:
    return {name: schema.names for name, schema in DERIVED.items()}


def _fetch(control: ObjectStore, file: dict[str, Any], folder: Path) -> None:
    if file["dataset"] not in DERIVED:
        raise Permanent(f"{file['key']}: of an unknown dataset")
    target = folder / file["dataset"] / f"{file['sha256']}.parquet"
    with target.open("wb") as out:
        for start in range(0, file["bytes"], _PIECE):
            out.write(control.get_range(file["key"], start, min(_PIECE, file["bytes"] - start)))
    if _sha256(target) != file["sha256"]:
        raise Permanent(f"{file['key']}: is not the file that {file['sha256']} names")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
