"""
# Layer retirement

Deletes layers that nothing needs any more: no head, no child layer, no running action, no lease, over a **complete**
inventory of all regions. Deletes last, and never on a doubt: a layer is tombstoned first, waits out the grace
(`policy.safety.grace_hours`, 72 by default), is looked at again with fresh heads, and only then deleted.
A replaced layer also waits, for a bounded time, until what replaced it is cached where it was read; the log names the
disk and the region.

| task | what |
|---|---|
| `retire` | one run: tombstones for new candidates, rescue of what is needed again, deletion of what is due |
| `report` | layers and bytes by region, in the log |

**In dry run (the default)** it only says what it would do; scheduled runs use `[schedule] retire_dry_run` of
fleet.toml.

**It stops by itself**, deletes nothing more and says why: when a region cannot be listed, when a listing is suddenly
small,
or when a run wants more than the caps of `policy.safety` (layers, bytes, share of the fleet). Look at the cause first;
raise the cap only if the number is right.

**Undo.** Until a replaced layer is deleted, `chainwright undo DISK` points the head back to what it was.
A failed task may be cleared at any time; two runs at once do no harm.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException

from dags.defaults import DEFAULT_ARGS, TAGS, control, fleet


@dag(
    schedule=fleet().schedule.retire,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=12),
    default_args=DEFAULT_ARGS,
    tags=[*TAGS, "retirement"],
    dag_display_name="Layer retirement",
    description="Deletes layers that nothing needs, after a grace; dry run by default",
    doc_md=__doc__,
    params={
        "dry_run": Param(fleet().schedule.retire_dry_run, type="boolean", title="Dry run", description="Only say what"),
    },
)
def layer_retire() -> None:
    """Wiring only."""
    report(retire())


@task(multiple_outputs=False, pool=control().pool)
def retire(params: dict[str, Any]) -> dict[str, Any]:
    """One run."""
    from tasks.stages import retire as stage

    done = stage.retire(fleet(), dry_run=params["dry_run"])
    for name, value in done.items():
        print(f"{name:20} {value}")  # noqa: T201 - the task's log; lists of layers may be long
    return {name: len(value) if isinstance(value, list) or name == "cold" else value for name, value in done.items()}


@task(multiple_outputs=False)
def report(done: dict[str, Any]) -> None:
    """The counts once more; fails if the run stopped itself."""
    for name, value in done.items():
        print(f"{name:20} {value}")  # noqa: T201 - the task's log
    if done["stopped"]:
        raise AirflowFailException(f"retirement stopped itself: {done['stopped']}")


layer_retire()
