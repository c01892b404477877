"""
# Chain inventory

Reads what is new in every region's bucket (headers and tables only, no guest data) and publishes a new **manifest
snapshot**. Unchanged layers, by key and ETag, are kept from the last snapshot, so an hourly run is cheap.

| task | where | what |
|---|---|---|
| `shards_<region>` | in the region | lists the bucket, splits it into pieces |
| `scan_<region>` | in the region, one per piece | reads the metadata of new layers by ranged requests |
| `reads_<region>` | in the region | rolls the regional cache's access log into the `reads` dataset |
| `publish` | control region | joins everything, swings `manifests/current.json` |
| `findings` | control region | checks the snapshot, lays the shadow analysis next to it, emits the asset |
| `complete` | control region | fails the run if a region is missing or a task failed |

**When it fails.** A region that cannot be listed completely fails its tasks; the other regions are published all the
same, the failing one keeps its rows of the last snapshot and is marked as not complete (then nothing is retired), and
the run ends as failed. Clear the failed task when the region is back, or wait for the next run.
A layer that cannot be read is no failure: it is a row with status `refused` and its reason.

**When a check fails.** `findings` prints each rule that does not hold, with the number of rows and one example. `warn`
is for somebody to look at (`chainwright query broken_chains`, `size_anomalies`). `stop` means that the manifest
contradicts itself: the task fails at once with the rule's name, and `chain_maintenance` is not started on this
snapshot. Look at the row that it names, then run the inventory again.

**By hand.** Trigger it without parameters; two runs at once are kept apart by `max_active_runs`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import TriggerRule, dag, task
from airflow.sdk.exceptions import AirflowFailException

from dags.defaults import (
    DEFAULT_ARGS,
    MANIFEST,
    TAGS,
    DagRegion,
    failed_tasks,
    fleet,
    regions,
    template_context,
)


@dag(
    schedule=fleet().schedule.inventory,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    default_args=DEFAULT_ARGS,
    tags=[*TAGS, "inventory"],
    dag_display_name="Chain inventory",
    description="New layers' metadata of every region into a new manifest snapshot",
    doc_md=__doc__,
)
def chain_inventory() -> None:
    """Wiring only."""
    publish = _publish()(scans=[_scan(region).expand(shard=_shards(region)) for region in regions()])
    for region in regions():
        _reads(region) >> publish
    complete(publish)
    publish >> findings()


def _shards(region: DagRegion) -> Any:
    @task(task_id=f"shards_{region.suffix}", queue=region.queue)
    def list_shards(name: str) -> list[dict[str, Any]]:
        from tasks.stages import inventory

        return inventory.list_shards(fleet(), name)

    return list_shards(region.name)


def _scan(region: DagRegion) -> Any:
    @task(task_id=f"scan_{region.suffix}", map_index_template="{{ shard }}", multiple_outputs=False, **region.placement)
    def scan_shard(shard: dict[str, Any]) -> dict[str, Any]:
        from tasks.stages import inventory

        template_context()["shard"] = shard.get("name", shard.get("shard", ""))
        return inventory.scan_shard(fleet(), shard)

    return scan_shard


def _reads(region: DagRegion) -> Any:
    @task(task_id=f"reads_{region.suffix}", queue=region.queue, multiple_outputs=False)
    def collect_reads(name: str) -> dict[str, Any]:
        from tasks.stages import reads

        return reads.collect(fleet(), name)

    return collect_reads(region.name)


def _publish() -> Any:
    @task(multiple_outputs=False, trigger_rule=TriggerRule.ALL_DONE)
    def publish(scans: list[Any]) -> dict[str, Any]:
        from tasks.stages import inventory

        flat = [scan for of_region in scans if of_region for scan in of_region if scan]
        return inventory.publish(fleet(), flat)

    return publish


@task(outlets=[MANIFEST], multiple_outputs=False)
def findings() -> dict[str, Any]:
    """Checks and derived datasets of the current snapshot; maintenance may plan on it when this has ended well."""
    from tasks.stages import findings as stage

    result = stage.run(fleet())
    print("\n".join(stage.report(result)))  # noqa: T201 - the task's log
    return result


@task
def complete(published: dict[str, Any]) -> None:
    """Names the regions that are missing from the snapshot, and the tasks that failed."""
    print(published)  # noqa: T201 - the task's log
    missing = [f"{name} ({state['note']})" for name, state in published["regions"].items() if not state["complete"]]
    failed = failed_tasks()
    if missing or failed:
        raise AirflowFailException(f"not complete: {', '.join(missing) or 'no region'}; failed: {', '.join(failed)}")


chain_inventory()
