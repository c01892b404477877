"""The regional part that several DAGs share: one mapped task per region, named by disk, in the region's queue and pool.

A plan, as it travels between tasks: {"plan_id", "dry_run", "items": [work item, …], …}. A work item is small JSON:
{"kind": "merge" | "warm" | "live", "disk_id", "region", …}.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from airflow.sdk import TriggerRule, task
from airflow.sdk.exceptions import AirflowFailException

from dags.defaults import MAX_MAPPED, DagRegion, failed_tasks, fleet, regions, template_context


class RegionalWork(NamedTuple):
    """The regional part of a DAG."""

    first: list[Any]  # the tasks with which it begins
    results: list[Any]  # the mapped results, for `report`


def regional_work(plan: Any) -> RegionalWork:
    """For each region: `work_<region>` picks its items of the plan (none in dry run), `act_<region>` does each."""
    picks = {region: _pick(region)(plan) for region in regions()}
    return RegionalWork(list(picks.values()), [_act(region).expand(item=mine) for region, mine in picks.items()])


def pick_task_ids() -> list[str]:
    """The tasks with which the regional part begins: what a branch has to name."""
    return [f"work_{region.suffix}" for region in regions()]


def _pick(region: DagRegion) -> Any:
    @task(
        task_id=f"work_{region.suffix}",
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
    )
    def pick(plan: dict[str, Any]) -> list[dict[str, Any]]:
        return pick_items(plan, region.name)

    return pick


def pick_items(plan: dict[str, Any], region: str) -> list[dict[str, Any]]:
    """The region's items; none in dry run. What is over Airflow's limit is left for the next run."""
    if plan["dry_run"]:
        return []
    return [item for item in plan["items"] if item["region"] == region][:MAX_MAPPED]


def _act(region: DagRegion) -> Any:
    @task(task_id=f"act_{region.suffix}", map_index_template="{{ disk }}", multiple_outputs=False, **region.placement)
    def act(item: dict[str, Any]) -> dict[str, Any]:
        context = template_context()
        context["disk"] = item["disk_id"]
        return run_item(item, attempt_of(context), str(context["ti"].run_id))

    return act


def run_item(item: dict[str, Any], attempt: str, run: str = "") -> dict[str, Any]:
    """Carry one work item out; the item with what became of it. The DAG's `run` bounds what its tasks warm."""
    if item["kind"] == "warm":
        from tasks.stages import warm

        return {**item, **warm.warm(fleet(), item["disk_id"], item["region"], dry_run=False, run=run)}
    if item["kind"] == "live":
        from tasks.stages import apply, live

        with apply.interrupted_by_sigterm():  # a cancelled task cancels the job in the VM
            return {**item, **live.stream(fleet(), item["disk_id"], item["base"])}
    from tasks.stages import maintain

    return {**item, **maintain.merge(fleet(), item["plan_id"], item["action_id"], attempt)}


def attempt_of(context: Any) -> str:
    """A name for this try that no other try has."""
    instance = context["ti"]
    return f"{instance.run_id}.{instance.task_id}.{instance.map_index}.{instance.try_number}"


@task(trigger_rule=TriggerRule.ALL_DONE, multiple_outputs=False)
def report(plan: dict[str, Any] | None, results: list[Any]) -> dict[str, Any]:
    """What became of every item, in the log; the counts as the result. Fails, after printing, if a task failed."""
    if plan is None:
        raise AirflowFailException("there is no plan: its task failed, and its log says why; nothing was changed")
    done = [result for of_region in results if of_region for result in of_region if result]
    counts: dict[str, int] = {}
    for result in done:
        outcome = str(result.get("outcome", "done"))
        counts[outcome] = counts.get(outcome, 0) + 1
        print(f"{result['disk_id']:40} {result['region']:12} {outcome:12} {result.get('reason', '')}")  # noqa: T201
    failed = failed_tasks()
    print(f"dry run: {plan['dry_run']}; planned: {len(plan['items'])}; outcomes: {counts}")  # noqa: T201
    if failed:
        raise AirflowFailException(f"{len(failed)} tasks failed: {', '.join(failed[:10])}; clear them to try again")
    return {"plan_id": plan.get("plan_id"), "dry_run": plan["dry_run"], "outcomes": counts}
