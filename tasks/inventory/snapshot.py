"""A manifest snapshot as a value: which files hold which dataset, and how complete the scan behind it was."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from tasks.errors import Permanent
from tasks.inventory.schema import DATASETS

FORMAT = 1


@dataclass(frozen=True, slots=True)
class FileRef:
    """One immutable Parquet file in the control bucket. Snapshots share files."""

    key: str
    bytes: int
    rows: int
    sha256: str
    region: str = ""  # layers: every row is of this region
    first_no: int = -1  # layers, extents: smallest and largest layer_no in it
    last_no: int = -1


@dataclass(frozen=True, slots=True)
class RegionState:
    """What the scan behind the snapshot saw of one region."""

    objects: int = 0  # listed under layers/
    complete: bool = True  # false: (a part of) the region was not listed, its rows are the previous snapshot's
    note: str = ""  # why not complete, or `listing_shrunk`
    listed_at: str = ""  # ISO 8601, UTC


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`manifests/<snapshot_id>/snapshot.json`. Never changes; `manifests/current.json` names the newest."""

    snapshot_id: str
    created_at: str  # ISO 8601, UTC
    parent_id: str | None
    next_layer_no: int
    datasets: dict[str, tuple[FileRef, ...]]
    regions: dict[str, RegionState] = field(default_factory=dict)
    internal: dict[str, tuple[FileRef, ...]] = field(default_factory=dict)  # bookkeeping of incremental scans
    summary: dict[str, int] = field(default_factory=dict)  # row counts and bytes, for people
    scans: tuple[str, ...] = ()  # ids of the scans that it and the last ones were made of
    cursors: dict[str, str] = field(default_factory=dict)  # how far the logs behind appended rows were read (JSON)
    rules: str = ""  # tasks.inventory.shards.fingerprint of what the rows were made with

    @property
    def complete(self) -> bool:
        """Was every region listed in full? Nothing may be deleted on the basis of a snapshot that is not."""
        return all(region.complete for region in self.regions.values())

    def files(self) -> list[FileRef]:
        """Every file of every dataset."""
        return [ref for refs in self.datasets.values() for ref in refs]


def snapshot_to_json(snapshot: Snapshot) -> bytes:
    """The record's bytes."""
    return json.dumps({"format": FORMAT, **asdict(snapshot)}, indent=1).encode()


def snapshot_from_json(body: bytes, where: str) -> Snapshot:
    """The inverse; Permanent if it is not a record of this format."""
    try:
        raw: dict[str, Any] = json.loads(body)
        _check_format(raw.pop("format"))
        datasets = {name: _refs(refs) for name, refs in raw.pop("datasets").items() if name in DATASETS}
        internal = {name: _refs(refs) for name, refs in raw.pop("internal").items()}
        regions = {name: RegionState(**state) for name, state in raw.pop("regions").items()}
        scans = tuple(raw.pop("scans"))
        return Snapshot(datasets=datasets, internal=internal, regions=regions, scans=scans, **raw)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Permanent(f"{where}: not a manifest snapshot: {error}") from None


def _check_format(found: Any) -> None:
    if found != FORMAT:
        raise ValueError(f"format {found!r}, this version reads {FORMAT}")


def _refs(raw: list[dict[str, Any]]) -> tuple[FileRef, ...]:
    return tuple(FileRef(**ref) for ref in raw)
