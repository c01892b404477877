"""Which snapshot the pages show, how old it is, what is wrong, and what the user may do."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from .guard import MAY_SEE, MayAct
from .problems import Problem, Unavailable, iso
from .snapshots import SnapshotHolder
from .state import holder

router = APIRouter(dependencies=MAY_SEE)

RECHECK_WAIT_SECONDS = 20.0


@router.get("/status")
def status(act: MayAct, here: Annotated[SnapshotHolder, Depends(holder)]) -> dict[str, Any]:
    """Always 200: `problem` says what is missing, `warning` what is out of date."""
    base: dict[str, Any] = {"may": act, "problem": None, "warning": None, "snapshot": None, "fleet": None}
    try:
        view = here.view()
    except Unavailable as error:
        return base | {"problem": asdict(error.problem)}
    fleet = view.fleet
    return base | {
        "warning": _plain(view.warning),
        "snapshot": {"id": view.staged.snapshot_id, "created_at": iso(view.staged.created_at)},
        "fleet": {
            "name": fleet.name,
            "control_region": fleet.control_region,
            "regions": [region.name for region in fleet.regions],
            "max_chain_length": fleet.policy.max_chain_length,
            "budget": asdict(fleet.policy.budget),
        },
    }


@router.post("/recheck")
def recheck(here: Annotated[SnapshotHolder, Depends(holder)]) -> dict[str, bool]:
    """Look for a newer snapshot now: a page asks after a run that it has followed."""
    here.recheck(RECHECK_WAIT_SECONDS)
    return {"ok": True}


def _plain(problem: Problem | None) -> dict[str, Any] | None:
    return asdict(problem) if problem else None
