"""
# Cache warming

Fills the regional caches with what the next start of a disk will read, before it does: the guest-visible data and every
layer's tables, minus what is cached already. Boot trace first, then heat, then the rest.

| task | what |
|---|---|
| `plan` | which disk in which region, and why: the read hotspots, what merges replaced, the starts that are due |
| `work_<region>` | the region's share; nothing in dry run |
| `act_<region>` | one task per disk, in the region, within the pool `region-<region>` |
| `report` | outcome by disk |

**Guests come first.** Warming slows down and pauses while the cache serves guests badly, and goes on afterwards; a
retry goes on where the last try stopped. Layers never change, so a run that was ended half-way has lost nothing.

**Parameters.** `dry_run` (default true; scheduled runs: `[schedule] warm_dry_run` in fleet.toml), `disk`, `region`.
Example: `{"disk": "web-1", "region": "ap-south", "dry_run": false}`. What a merge has replaced is warmed by the merge's
own task; what that could not warm is planned here (`replaced`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from dags.defaults import DEFAULT_ARGS, TAGS, fleet
from dags.work import regional_work, report


@dag(
    schedule=fleet().schedule.warm,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=12),
    default_args=DEFAULT_ARGS,
    tags=[*TAGS, "cache"],
    dag_display_name="Cache warming",
    description="What the next start will read, into the regional caches; dry run by default",
    doc_md=__doc__,
    params={
        "dry_run": Param(fleet().schedule.warm_dry_run, type="boolean", title="Dry run", description="Only say what"),
        "disk": Param(None, type=["null", "string"], title="Disk", description="Empty: what the forecasts name"),
        "region": Param(None, type=["null", "string"], title="Region", description="Empty: where it will be read"),
    },
)
def cache_warm() -> None:
    """Wiring only."""
    plan = plan_warm()
    report(plan, regional_work(plan).results)


@task(task_id="plan", multiple_outputs=False)
def plan_warm(params: dict[str, Any]) -> dict[str, Any]:
    """The disks and regions."""
    from tasks.stages import warm_plan

    planned = warm_plan.plan_warm(fleet(), disk=params["disk"], region=params["region"])
    items = [{"kind": "warm", **item} for item in planned]
    for item in items:
        print(f"{item['disk_id']} in {item['region']}: {item['why']}")  # noqa: T201 - the task's log
    return {"plan_id": None, "items": items, "dry_run": params["dry_run"]}


cache_warm()
