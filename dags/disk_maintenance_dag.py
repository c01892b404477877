"""
# Disk maintenance (by hand)

One disk, one action, now: **merge** its long chain, or **warm** it in a region's cache.

| parameter | meaning |
|---|---|
| `disk` | the disk's id (`chainwright query chain_length` lists them) |
| `action` | `merge` or `warm` |
| `engine` | `auto` lets the planner choose; a named engine is used where it is safe, else the plan says why not |
| `region` | for `warm`: where; empty = the disk's home |
| `dry_run` | default true: plan and explain only |

Example: `{"disk": "web-1", "action": "merge", "engine": "auto", "dry_run": false}`

An unknown disk, or one whose VM is running, fails at once with one clear line in the log of `plan`; nothing is changed.
The plan is made from the newest manifest snapshot: run `chain_inventory` first if the disk is new.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from dags.defaults import DEFAULT_ARGS, TAGS, fleet
from dags.work import regional_work, report


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=8,
    dagrun_timeout=timedelta(hours=24),
    default_args=DEFAULT_ARGS,
    tags=[*TAGS, "maintenance"],
    dag_display_name="Disk maintenance (by hand)",
    description="Merge or warm one disk now; dry run by default",
    doc_md=__doc__,
    params={
        "disk": Param(type="string", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$", title="Disk"),
        "action": Param("merge", enum=["merge", "warm"], title="Action"),
        "engine": Param("auto", enum=["auto", "rebase", "stream", "compose", "live"], title="Engine"),
        "region": Param(None, type=["null", "string"], title="Region (warm)", description="Empty: the disk's home"),
        "dry_run": Param(True, type="boolean", title="Dry run", description="Plan and explain only; change nothing"),
    },
)
def disk_maintenance() -> None:
    """Wiring only."""
    plan = plan_disk()
    report(plan, regional_work(plan).results)


@task(task_id="plan", multiple_outputs=False)
def plan_disk(params: dict[str, Any]) -> dict[str, Any]:
    """Checks the disk, plans, prints the plan."""
    from tasks.stages import maintain

    planned = maintain.plan_disk(fleet(), params["disk"], params["action"], params["engine"], params["region"])
    print(planned.pop("text"))  # noqa: T201 - the task's log
    return {**planned, "dry_run": params["dry_run"]}


disk_maintenance()
