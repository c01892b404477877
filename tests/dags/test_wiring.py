"""What every DAG of the project must have, and the order in which things may happen."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.settings import ENV_FLEET
from tests.support.airflow_env import ROOT

pytestmark = pytest.mark.airflow

EXPECTED = {"cache_warm", "chain_inventory", "chain_maintenance", "disk_maintenance", "layer_retire"}
CHANGING = EXPECTED - {"chain_inventory"}
REGIONS = ("us_east", "eu_west", "ap_south")
HEAVY = ("boto3", "duckdb", "numba", "numpy", "obstore", "pyarrow", "qemu")
PARSE_CPU_SECONDS = 2.0

# Airflow itself is imported first: what is measured is the project's own part, the part that every task pays again.
PARSE_ALONE = """
import json, sys, time
import airflow.sdk, airflow.providers.standard.operators.hitl
from airflow.dag_processing.dagbag import DagBag
for file in sys.argv[1:]:
    started = time.process_time()
    bag = DagBag(file)
    print("parsed", json.dumps({
        "file": file,
        "error": "".join(bag.import_errors.values()),
        "dags": sorted(bag.dags),
        "cpu_seconds": time.process_time() - started,
        "modules": sorted(sys.modules),
    }))
"""


def parse_alone(files: list[Path], fleet_file: Path, home: Path) -> list[dict[str, Any]]:
    """Parse DAG files, one after the other, in a process that has nothing of ours loaded."""
    environment = {
        **os.environ,
        ENV_FLEET: str(fleet_file),
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    argv = [sys.executable, "-W", "ignore", "-c", PARSE_ALONE, *map(str, files)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, cwd=home)
    return [json.loads(line.removeprefix("parsed ")) for line in done.stdout.splitlines() if line.startswith("parsed ")]


def test_exactly_the_expected_dags(dags: dict[str, Any]) -> None:
    assert set(dags) == EXPECTED


def test_every_file_parses_fast_and_pulls_in_nothing_heavy(fleet_file: Path, tmp_path: Path) -> None:
    files = sorted((ROOT / "dags").glob("*_dag.py"))
    parsed = parse_alone(files, fleet_file, tmp_path)
    assert [one["file"] for one in parsed] == [str(file) for file in files]
    for one in parsed:
        assert one["error"] == ""
        assert f"{one['dags'][0]}_dag.py" == Path(one["file"]).name
        assert set(HEAVY) & set(one["modules"]) == set(), one["file"]
        assert one["cpu_seconds"] < PARSE_CPU_SECONDS, one["file"]


def test_a_wrong_fleet_file_is_named_in_the_import_error(tmp_path: Path) -> None:
    wrong = tmp_path / "fleet.toml"
    wrong.write_text('control_region = "mars"\nregions = []\n')
    parsed = parse_alone([ROOT / "dags" / "chain_maintenance_dag.py"], wrong, tmp_path)
    assert f"{wrong}: control_region: 'mars' is not one of" in parsed[0]["error"]


@pytest.mark.parametrize("dag_id", sorted(EXPECTED))
def test_runbook_tags_and_retries(dag_id: str, dags: dict[str, Any]) -> None:
    dag = dags[dag_id]
    assert dag.doc_md is not None
    assert dag.doc_md.strip().startswith("# ")
    assert len(dag.doc_md) > 400
    assert "chainwright" in dag.tags
    assert dag.catchup is False
    for task in dag.tasks:
        assert task.retries >= 1, task.task_id
        assert task.retry_exponential_backoff, task.task_id


@pytest.mark.parametrize("dag_id", sorted(CHANGING))
def test_what_changes_something_is_in_dry_run_by_default(dag_id: str, dags: dict[str, Any]) -> None:
    assert dags[dag_id].params.get_param("dry_run").value is True


@pytest.mark.parametrize("dag_id", sorted(EXPECTED))
def test_every_task_has_the_queue_of_a_region(dag_id: str, dags: dict[str, Any]) -> None:
    queues = {region.replace("_", "-") for region in REGIONS}
    for task in dags[dag_id].tasks:
        assert task.queue in queues, task.task_id
        regional = [
            region for region in REGIONS if task.task_id.endswith(region) and not task.task_id.startswith("work")
        ]
        assert task.queue == (regional[0].replace("_", "-") if regional else "us-east"), task.task_id


def test_inventory_feeds_maintenance(dags: dict[str, Any]) -> None:
    inventory = dags["chain_inventory"]
    emitting = {task.task_id: [asset.name for asset in task.outlets] for task in inventory.tasks if task.outlets}
    assert emitting == {"findings": ["chainwright_manifest"]}  # not a snapshot that contradicts itself
    assert inventory.get_task("findings").upstream_task_ids == {"publish"}
    assert inventory.get_task("findings").trigger_rule == "all_success"
    condition = dags["chain_maintenance"].timetable.asset_condition
    assert "chainwright_manifest" in str(condition)


def test_publish_waits_for_every_region(dags: dict[str, Any]) -> None:
    upstream = dags["chain_inventory"].get_task("publish").upstream_task_ids
    assert upstream >= {f"{kind}_{region}" for kind in ("scan", "reads") for region in REGIONS}


@pytest.mark.parametrize("region", REGIONS)
def test_actions_run_in_the_queue_and_pool_of_their_region(region: str, dags: dict[str, Any]) -> None:
    for dag_id in ("chain_maintenance", "disk_maintenance"):
        act = dags[dag_id].get_task(f"act_{region}")
        assert act.is_mapped
        assert act.partial_kwargs["pool"] == f"region-{region.replace('_', '-')}"
        assert act.partial_kwargs["queue"] == region.replace("_", "-")
        assert act.partial_kwargs["map_index_template"] == "{{ disk }}"


@pytest.mark.parametrize("region", REGIONS)
def test_nothing_is_changed_before_explain_gate_and_approval(region: str, dags: dict[str, Any]) -> None:
    dag = dags["chain_maintenance"]
    before = {task.task_id for task in dag.get_task(f"act_{region}").get_flat_relatives(upstream=True)}
    assert before >= {"plan", "explain", "gate", "approve", f"work_{region}"}
    assert dag.get_task(f"work_{region}").upstream_task_ids == {"plan", "gate", "approve"}


def test_a_forgotten_disk_is_asked_for(dags: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="disk"):
        dags["disk_maintenance"].params.validate()
