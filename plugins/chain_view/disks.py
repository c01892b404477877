"""One disk: its head as it is now, and what the manifest knows of it."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from tasks.analytics import answers, queries
from tasks.chain.head import Head
from tasks.errors import ChainwrightError, NotFound
from tasks.store.connect import control_store
from tasks.store.heads import HeadStore

from .guard import MAY_SEE
from .problems import Problem
from .snapshots import View
from .state import ViewNow, defaults_of, limits
from .tables import plain

router = APIRouter(dependencies=MAY_SEE)

DiskId = Annotated[str, Query(min_length=1, max_length=1100)]


@router.get("/disk")
def disk(disk: DiskId, view: ViewNow) -> dict[str, Any]:
    """The disk's row of the manifest, null if the manifest does not know it. Asks no store."""
    directory = view.staged.directory
    row = answers.find_row(directory, queries.find("chain_length"), defaults_of(view), limits(), disk_id=disk)
    return {"disk_id": disk, "known": plain(row) if row else None}


@router.get("/head")
def head(disk: DiskId, view: ViewNow) -> dict[str, Any]:
    """The head's record in the store as it is now, or why it cannot be read."""
    record, problem = _head_now(view, disk)
    return {"head": asdict(record) if record else None, "problem": asdict(problem) if problem else None}


def _head_now(view: View, disk_id: str) -> tuple[Head | None, Problem | None]:
    """The head's record, or why it could not be read: the page shows the rest all the same."""
    try:
        return HeadStore(control_store(view.fleet)).read(disk_id).head, None
    except NotFound:
        return None, Problem("no_head", "The store holds no head of this disk", "It was there at the inventory.")
    except ChainwrightError as error:
        line = " ".join(str(error).split())
        return None, Problem("head_unreadable", "The disk's head cannot be read now", line)
