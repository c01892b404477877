"""What all DAGs share: retries, tags, regions with their pool and queue, the fleet.

Parsing must stay cheap (every task parses its DAG file again): nothing heavy is imported outside task bodies.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import Asset, ExceptionRetryPolicy, RetryAction, RetryRule, get_current_context

from tasks.settings import load_fleet

if TYPE_CHECKING:
    from tasks.settings import Fleet

TAGS = ["chainwright"]
MANIFEST = Asset(name="chainwright_manifest", uri="chainwright://manifest")  # a new snapshot of the inventory
MAX_MAPPED = 1000  # Airflow refuses longer lists (max_map_length 1024); what is left waits for the next run

# The worker judges by the real error: what cannot succeed by repetition fails at once, with its one clear line.
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=[
                "tasks.errors.Refused",
                "tasks.errors.ConfigError",
                "tasks.errors.NotFound",
                "tasks.errors.OutcomeUnknown",
            ],
            action=RetryAction.FAIL,
            reason="repetition does not help",
        )
    ]
)


@dataclass(frozen=True)
class DagRegion:
    """A region as DAGs see it: tasks of it run in its queue, and hold a slot of its pool."""

    name: str
    pool: str
    queue: str

    @property
    def suffix(self) -> str:
        """For task ids."""
        return self.name.replace("-", "_")

    @property
    def placement(self) -> dict[str, str]:
        """Arguments of a task that runs there."""
        return {"pool": self.pool, "queue": self.queue}


def fleet() -> Fleet:
    """The fleet of $CHAINWRIGHT_FLEET. ConfigError shows as the DAG's import error, naming file and field."""
    return load_fleet()


def regions() -> list[DagRegion]:
    """Every region of the fleet, the control region first."""
    described = fleet()
    ordered = sorted(described.regions, key=lambda region: region.name != described.control_region)
    return [DagRegion(region.name, f"region-{region.name}", region.queue or region.name) for region in ordered]


def template_context() -> dict[str, Any]:
    """The running task's context: what is put there, `map_index_template` can name."""
    return cast("dict[str, Any]", get_current_context())


def failed_tasks() -> list[str]:
    """Names of this run's tasks that failed: for a last task that runs in any case and would otherwise hide them."""
    instance = template_context()["ti"]
    states = instance.get_task_states(dag_id=instance.dag_id, run_ids=[instance.run_id])[instance.run_id]
    return sorted(name for name, state in states.items() if state in ("failed", "upstream_failed"))


def control() -> DagRegion:
    """The region that holds heads and manifests: what concerns the whole fleet runs there."""
    return regions()[0]


DEFAULT_ARGS: dict[str, Any] = {
    "retries": 3,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": RETRY_POLICY,
    "execution_timeout": timedelta(hours=6),
    "queue": control().queue,  # what concerns the whole fleet; regional tasks name their own
}
