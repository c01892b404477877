"""
# Chain maintenance

Finds the chains that are worth shortening, plans within the budgets of the policy, and carries the plan out: **one
mapped task per disk, in the region where the disk lives**. Runs after every new manifest snapshot, **in dry run until
you say otherwise**.

| task | what |
|---|---|
| `plan` | manifests + policy → a stored plan; every chosen and every skipped chain has a reason |
| `explain` | prints the plan in its log: what would be merged, why, the bytes, the money |
| `gate`, `approve` | a plan that moves more than `policy.approve_above_bytes`, the stores' own copies included, waits |
|  | for a person (*Required actions*) |
| `work_<region>` | the region's share of the plan; nothing in dry run |
| `act_<region>` | the actions; at most as many at once as the region's pool `region-<region>` has slots. A new layer |
|  | is then warmed in the regions whose guests read the old ones |
| `report` | outcome by disk |

**Parameters.** `dry_run` (default true) plans and explains, and changes nothing; scheduled runs use the default, which
the operator turns off in fleet.toml (`[schedule] maintenance_dry_run = false`). `approve`: `policy`, `always` or
`never`. `disks`: only these. By hand: `{"dry_run": false}`.

**Outcomes of an action.** `published`; `superseded` or `lost` (somebody changed the head first: nothing was changed,
the next run plans anew); `refused` (a hazard, with its name). A *failed* task may be cleared at any time: actions are
idempotent, and a crash leaves the old head or the new one.

**To stop.** Mark the run failed. Running actions are ended; what they had uploaded is named in `actions/` and is
collected later.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, dag, task

from dags.defaults import DEFAULT_ARGS, MANIFEST, TAGS, fleet
from dags.work import pick_task_ids, regional_work, report


@dag(
    schedule=[MANIFEST],
    catchup=False,
    max_active_runs=2,  # a run by hand does not wait behind a scheduled dry run
    max_active_tasks=64,
    dagrun_timeout=timedelta(hours=24),
    default_args=DEFAULT_ARGS,
    tags=[*TAGS, "maintenance"],
    dag_display_name="Chain maintenance",
    description="Plans and merges long chains, one task per disk; dry run by default",
    doc_md=__doc__,
    params={
        "dry_run": Param(
            fleet().schedule.maintenance_dry_run,
            type="boolean",
            title="Dry run",
            description="Plan and explain only; change nothing",
        ),
        "approve": Param("policy", enum=["policy", "always", "never"], title="Approval by a person"),
        "disks": Param([], type="array", items={"type": "string"}, title="Only these disks", section="Scope"),
    },
)
def chain_maintenance() -> None:
    """Wiring only."""
    plan = make_plan()
    text = explain(plan)
    approve = ApprovalOperator(
        task_id="approve",
        subject="Carry out the maintenance plan?",
        body="{{ ti.xcom_pull(task_ids='explain') }}",
        response_timeout=timedelta(hours=20),
        retries=1,  # an answer within the second in which it is asked can be taken for a crash: then it is asked again
        retry_delay=timedelta(seconds=5),
    )
    decided = gate(plan)
    work = regional_work(plan)
    text >> decided >> [approve, *work.first]
    approve >> work.first
    report(plan, work.results)


@task(task_id="plan", multiple_outputs=False)
def make_plan(params: dict[str, Any]) -> dict[str, Any]:
    """The stored plan's summary."""
    from tasks.stages import maintain, plan

    made = plan.make_plan(fleet(), disks=tuple(params["disks"]))
    items = made.pop("actions") + ([] if params["disks"] else maintain.live_items(fleet()))
    return {**made, "items": items, "dry_run": params["dry_run"]}


@task
def explain(plan: dict[str, Any]) -> str:
    """The whole plan into the log; its beginning as the result."""
    from tasks.stages import plan as stage

    text = stage.explain_plan(fleet(), plan["plan_id"])
    print(text)  # noqa: T201 - the task's log
    return text[:4000]


@task.branch
def gate(plan: dict[str, Any], params: dict[str, Any]) -> str | list[str]:
    """Must a person approve? Not a dry run, nor a plan without actions."""
    if params["dry_run"] or not plan["items"] or params["approve"] == "never":
        return pick_task_ids()
    above = plan["bytes"] + plan["copied_bytes"] > fleet().policy.approve_above_bytes
    return "approve" if above or params["approve"] == "always" else pick_task_ids()


chain_maintenance()
