"""What all routes share: the snapshot in view, the queries' defaults, their limits."""

import functools
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends

from tasks.analytics import answers, queries
from tasks.settings import Fleet

from .snapshots import SnapshotHolder, Staged, View
from .source import default_source

# What the pages ask for first: computed when a new snapshot arrives, before it is shown, and kept with it.
PREPARED: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("fleet_totals", {}),
    ("chain_length_histogram", {}),
    ("cross_region_hotspots", {}),
    ("cache_hit_rate", {}),
    ("savings_by_day", {}),
    ("growth_forecast", {"within_days": "7"}),
    ("chain_length", {}),
    ("receipts", {}),
    ("outcomes", {}),
    ("shadowed_data", {}),
    ("growth_forecast", {}),
    ("orphans", {}),
    ("broken_chains", {}),
    ("size_anomalies", {}),
)


def limits() -> answers.Limits:
    """Of one query. Each request has its own connection, so these are per request."""
    return answers.Limits()


@functools.lru_cache(maxsize=1)
def holder() -> SnapshotHolder:
    """The process's one holder; tests put their own in its place."""
    return SnapshotHolder(default_source(), prepare)


def prepare(fleet: Fleet, staged: Staged) -> None:
    """Compute the first pages' answers of a snapshot that is about to be shown."""
    answers.prepare(staged.directory, PREPARED, defaults(fleet, staged), limits())


def is_kept(name: str, parameters: Mapping[str, str]) -> bool:
    """Whether an answer is worth keeping: without parameters of the caller's there is one, with them there are many."""
    return not parameters or (name, parameters) in PREPARED


def defaults(fleet: Fleet, staged: Staged) -> dict[str, Any]:
    """Values of parameters that the fleet's file and the snapshot answer. "Now" is the snapshot's moment."""
    return queries.fleet_defaults(fleet) | {"now": staged.created_at}


def defaults_of(view: View) -> Mapping[str, Any]:
    """See `defaults`."""
    return defaults(view.fleet, view.staged)


def current_view(here: Annotated[SnapshotHolder, Depends(holder)]) -> View:
    """The snapshot in view; Unavailable becomes a 503 that says why."""
    return here.view()


ViewNow = Annotated[View, Depends(current_view)]
