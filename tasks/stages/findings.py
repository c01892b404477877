"""Findings: derive what follows from a manifest, check it, and open it for queries.

After each inventory `run` computes the derived datasets of the new snapshot (from the last one's, where they still
hold), lays them next to it in the control bucket, and runs the data checks. Everybody else calls `staged`.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.analytics import checks
from tasks.analytics.duck import open_manifest
from tasks.analytics.sqlfiles import Query
from tasks.errors import NotFound, Transient
from tasks.inventory.manifest import current_snapshot, stage
from tasks.inventory.snapshot import Snapshot
from tasks.settings import Fleet
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store

DERIVED_INPUTS = {"shadow_layers", "steals"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What the analysis may use."""

    memory: str = "1GB"
    threads: int = 2


def run(fleet: Fleet, limits: Limits = Limits()) -> dict[str, Any]:
    """Derive, publish and check the current snapshot: its summary, as small JSON. Safe to repeat.

    {"snapshot_id", "layers", "worked_layers", "steals", "published", "checks": [...]}. NotFound before the first scan;
    Refused if the manifest contradicts itself (then nothing is published).
    """
    from tasks.analytics.derive import discard_derived
    from tasks.analytics.published import publish_derived

    control = control_store(fleet)
    folder, snapshot, done = _derived(fleet, control, limits)
    with open_manifest(folder, memory_limit=limits.memory, threads=limits.threads) as connection:
        failures = checks.run_checks(connection)
    try:
        checks.raise_first_stop(failures)
    except Exception:
        discard_derived(folder)
        raise
    published = publish_derived(control, snapshot.snapshot_id, folder)
    return {
        "snapshot_id": snapshot.snapshot_id,
        **done,
        "published": published,
        "checks": [asdict(failure) for failure in failures],
    }


def report(result: dict[str, Any]) -> list[str]:
    """What `run` did, and every rule that does not hold, as lines for a person."""
    worked, layers = result["worked_layers"], result["layers"]
    lines = [f"Snapshot {result['snapshot_id']}: {layers} layers, {worked} of them analysed anew"]
    lines += [
        f"{failure['severity']}: {failure['table']}: {failure['rule']}: {failure['failures']} rows, such as "
        f"{failure['example']}"
        for failure in result["checks"]
    ]
    return lines if result["checks"] else [*lines, "All checks hold"]


def staged(fleet: Fleet, control: ObjectStore | None = None, limits: Limits = Limits()) -> tuple[Path, Snapshot]:
    """The current manifest as a local folder, with its derived datasets: fetched, or computed if nobody did yet.

    NotFound before the first scan.
    """
    folder, snapshot, _ = _derived(fleet, control or control_store(fleet), limits)
    return folder, snapshot


def staged_for(fleet: Fleet, query: Query | None) -> Path:
    """A folder that can answer a query (None: any); without the derived datasets if the query does not read them."""
    if query is None or DERIVED_INPUTS & set(query.inputs):
        return staged(fleet)[0]
    control = control_store(fleet)
    return stage(control, _current(control), cache_of(fleet))


def prepared(folder: Path, query: Query | None) -> Path:
    """The same for a manifest folder of one's own: computes the derived datasets in it if they are needed."""
    if query is None or DERIVED_INPUTS & set(query.inputs):
        from tasks.analytics.derive import derive, is_derived  # brings the compiled kernels along

        if not is_derived(folder):
            derive(folder)
    return folder


def cache_of(fleet: Fleet) -> Path:
    """Where snapshots are staged."""
    return Path(fleet.work_dir) / "manifests"


def _current(control: ObjectStore) -> Snapshot:
    snapshot = current_snapshot(control)
    if snapshot is None:
        raise NotFound(f"bucket {control.bucket}: no manifest yet; run `chainwright scan`")
    return snapshot


def _derived(fleet: Fleet, control: ObjectStore, limits: Limits) -> tuple[Path, Snapshot, dict[str, Any]]:
    from tasks.analytics.derive import derive, is_derived
    from tasks.analytics.published import fetch_derived

    snapshot = _current(control)
    folder = stage(control, snapshot, cache_of(fleet))
    if is_derived(folder) or _fetched(fetch_derived, control, snapshot.snapshot_id, folder):
        return folder, snapshot, {"layers": snapshot.summary.get("layers", 0), "worked_layers": 0}
    previous = cache_of(fleet) / "snapshots" / (snapshot.parent_id or "none")
    done = derive(
        folder,
        previous if is_derived(previous) else None,
        memory_limit=limits.memory,
        threads=limits.threads,
    )
    return folder, snapshot, asdict(done)


def _fetched(fetch: Any, control: ObjectStore, snapshot_id: str, folder: Path) -> bool:
    """A store that does not answer now is no reason to go without: they can be computed here."""
    try:
        return bool(fetch(control, snapshot_id, folder))
    except Transient:
        return False
