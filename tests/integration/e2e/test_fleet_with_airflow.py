"""One embedded fleet, from `up` to `down`, driven through Airflow's REST API as a person or a script would.

The tests share the fleet and run in the order of this file: starting it costs more than all of them.
"""

import hashlib
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3

from tasks import clock
from tasks.analytics.published import record_key
from tasks.embedded.airflow_api import FINISHED, AirflowApi
from tasks.errors import NotFound, Permanent, Transient
from tasks.execute.checkpoint import ENV_CRASH_AT, ENV_CRASH_ONCE
from tasks.inventory.manifest import current_snapshot
from tasks.retry import until_up
from tasks.stages import remote_chain
from tasks.stages.export import export_disk
from tasks.stages.transfer import import_disk
from tasks.store.connect import control_store, open_stores
from tasks.store.heads import HeadStore
from tests.support.cli import chainwright
from tests.support.embedded_fleet import LiveFleet, new_fleet, task_log
from tests.support.evolving import make_chain

pytestmark = [pytest.mark.airflow, pytest.mark.s3, pytest.mark.qemu, pytest.mark.timeout(600)]

LAYERS = 12
DISKS = {"first": 1, "second": 2, "third": 3}  # disk id -> seed
RUN_SECONDS = 240


@pytest.fixture(scope="module")
def crash_now(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create this file, and the next action kills itself when its result is uploaded but not published."""
    return tmp_path_factory.mktemp("crash") / "now"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, crash_now: Path) -> Iterator[LiveFleet]:
    fleet = new_fleet(tmp_path_factory.mktemp("fleet"))
    try:
        up = fleet.up(**{ENV_CRASH_AT: "uploaded", ENV_CRASH_ONCE: str(crash_now)})
        assert up.code == 0, up.err
        yield fleet
    finally:
        fleet.down()


@pytest.fixture(scope="module")
def originals(live: LiveFleet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two disks with long chains in the fleet, and an inventory; disk id -> SHA-256 of the content."""
    folder = tmp_path_factory.mktemp("chains")
    hashes = {}
    for disk_id, seed in DISKS.items():
        disk = make_chain(folder, disk_id, LAYERS, seed=seed)
        hashes[disk_id] = hashlib.sha256(disk.raw.read_bytes()).hexdigest()
        disk.close()
        import_disk(live.fleet, folder, disk_id, disk.layers[-1].name, "eu-west")
    run = live.api.trigger("chain_inventory")
    assert live.api.wait("chain_inventory", run, RUN_SECONDS) == "success"
    return hashes


def chain_length(live: LiveFleet, disk_id: str) -> int:
    head = HeadStore(control_store(live.fleet)).read(disk_id).head
    return len(remote_chain.walk(open_stores(live.fleet), head.tip, head.home_region))


def content(live: LiveFleet, disk_id: str, folder: Path) -> str:
    out = folder / f"{disk_id}.raw"
    export_disk(live.fleet, disk_id, out)
    return hashlib.sha256(out.read_bytes()).hexdigest()


def maintain(live: LiveFleet, **conf: Any) -> tuple[str, str]:
    run = live.api.trigger("disk_maintenance", conf)
    return run, live.api.wait("disk_maintenance", run, RUN_SECONDS)


def act(live: LiveFleet, run: str) -> dict[str, Any]:
    """The one mapped action of a run."""
    found = [one for one in live.api.task_instances("disk_maintenance", run) if one["task_id"].startswith("act_")]
    mapped = [one for one in found if one["map_index"] >= 0]
    assert len(mapped) == 1, found
    return mapped[0]


def test_every_part_is_healthy(live: LiveFleet) -> None:
    ran = chainwright("status", "--state-dir", live.state.root, "--json")
    assert ran.code == 0, ran.out
    assert {part["part"] for part in ran.json} == {
        *("object store", "cache us-east", "cache eu-west", "cache ap-south"),
        *("airflow api-server", "airflow execution-api", "airflow scheduler", "airflow dag-processor"),
        "airflow triggerer",
    }


def test_nothing_listens_beyond_loopback(live: LiveFleet) -> None:
    pids = {process.pid for process in live.processes()}
    listening = [one for one in psutil.net_connections("inet") if one.pid in pids and one.status == "LISTEN"]
    assert len(listening) >= 5
    assert {one.laddr.ip for one in listening} == {"127.0.0.1"}


def test_a_second_up_starts_nothing(live: LiveFleet) -> None:
    before = {process.pid for process in live.processes() if process.ppid() == 1}
    assert live.up().code == 0
    assert {process.pid for process in live.processes() if process.ppid() == 1} == before


def test_other_ports_than_those_in_the_file_are_refused(live: LiveFleet) -> None:
    ran = chainwright("up", "--state-dir", live.state.root, "--airflow-port", "1234")
    assert "already says" in ran.line


def test_secrets_are_for_the_owner_only(live: LiveFleet) -> None:
    secret = [live.state.credentials, live.state.passwords, live.state.airflow_home / "secrets.json"]
    assert [stat.S_IMODE(file.stat().st_mode) for file in (*secret, live.state.root)] == [0o600, 0o600, 0o600, 0o700]


def test_dags_are_there_without_errors_or_warnings(live: LiveFleet, originals: dict[str, str]) -> None:
    assert live.api.call("GET", "/importErrors")["import_errors"] == []
    assert live.api.call("GET", "/dagWarnings")["dag_warnings"] == []
    dags = live.api.call("GET", "/dags")["dags"]
    assert {dag["dag_id"]: dag["is_paused"] for dag in dags} == dict.fromkeys(
        ("cache_warm", "chain_inventory", "chain_maintenance", "disk_maintenance", "layer_retire"), False
    )


def test_an_inventory_is_checked_and_its_findings_lie_next_to_it(live: LiveFleet, originals: dict[str, str]) -> None:
    run = live.api.trigger("chain_inventory")
    assert live.api.wait("chain_inventory", run, RUN_SECONDS) == "success"
    result = live.api.xcom("chain_inventory", run, "findings")
    assert (result["published"], result["checks"]) == (True, [])
    assert "All checks hold" in task_log(live, "chain_inventory", run, "findings")
    control = control_store(live.fleet)
    assert current_snapshot(control).snapshot_id == result["snapshot_id"]
    assert control.info(record_key(result["snapshot_id"])).size > 0


def test_strangers_and_viewers_cannot_trigger(live: LiveFleet) -> None:
    url = f"{live.api.url}/api/v2/dags/layer_retire/dagRuns"
    assert urllib3.request("POST", url, json={"logical_date": None}).status == 401
    from tasks.embedded import airflow

    viewer = AirflowApi(live.api.url, airflow.VIEWER, airflow.passwords(live.state)[airflow.VIEWER])
    assert viewer.call("GET", "/dags")["total_entries"] == 5
    with pytest.raises(Permanent, match="403"):
        viewer.trigger("layer_retire")


def test_a_wrong_form_is_refused_before_it_runs(live: LiveFleet) -> None:
    with pytest.raises(Permanent, match=r"400.*dry_run"):
        live.api.trigger("disk_maintenance", {"disk": "first", "dry_run": "perhaps"})
    with pytest.raises(Permanent, match=r"400.*disk"):
        live.api.trigger("disk_maintenance", {})


def test_a_dry_run_plans_and_changes_nothing(live: LiveFleet, originals: dict[str, str]) -> None:
    run, state = maintain(live, disk="first")
    assert state == "success"
    assert "first" in task_log(live, "disk_maintenance", run, "plan")
    assert chain_length(live, "first") == LAYERS


def test_disk_maintenance_shortens_one_disk(live: LiveFleet, originals: dict[str, str], tmp_path: Path) -> None:
    run, state = maintain(live, disk="first", dry_run=False)
    assert state == "success"
    done = act(live, run)
    assert (done["rendered_map_index"], done["task_id"], done["pool"]) == ("first", "act_eu_west", "region-eu-west")
    result = live.api.xcom("disk_maintenance", run, "act_eu_west", 0)
    assert result["outcome"] == "published"
    assert chain_length(live, "first") == result["layers_after"] < result["layers_before"] == LAYERS
    assert content(live, "first", tmp_path) == originals["first"]
    assert chain_length(live, "second") == LAYERS


def test_an_unknown_disk_is_one_clear_line(live: LiveFleet, originals: dict[str, str]) -> None:
    run, state = maintain(live, disk="nobody", dry_run=False)
    assert state == "failed"
    plan = next(one for one in live.api.task_instances("disk_maintenance", run) if one["task_id"] == "plan")
    assert plan["try_number"] == 1, "repetition does not help"
    assert "no disk 'nobody'" in task_log(live, "disk_maintenance", run, "plan")


def test_a_running_disk_is_left_alone(live: LiveFleet, originals: dict[str, str]) -> None:
    heads = HeadStore(control_store(live.fleet))
    heads.start("second", "some-host")
    run, state = maintain(live, disk="second", dry_run=False)
    assert state == "failed"
    assert "disk_running: disk second is running on some-host" in task_log(live, "disk_maintenance", run, "plan")
    assert heads.stop("second").head.state == "idle"
    assert chain_length(live, "second") == LAYERS


def test_killed_task_is_retried_to_the_end(
    live: LiveFleet, originals: dict[str, str], crash_now: Path, tmp_path: Path
) -> None:
    crash_now.touch()
    run, state = maintain(live, disk="second", dry_run=False)
    assert not crash_now.exists(), "the action was not killed"
    assert state == "success"
    assert act(live, run)["try_number"] == 2
    assert chain_length(live, "second") < LAYERS
    assert content(live, "second", tmp_path) == originals["second"]


def test_a_plan_waits_for_a_person_and_goes_on_when_approved(
    live: LiveFleet, originals: dict[str, str], tmp_path: Path
) -> None:
    conf = {"dry_run": False, "approve": "always", "disks": ["third"]}
    run = live.api.trigger("chain_maintenance", conf)
    question = f"/dags/chain_maintenance/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"
    assert "third" in wait_for_question(live, run, question)["body"]
    assert chain_length(live, "third") == LAYERS
    while live.api.run_state("chain_maintenance", run) not in FINISHED:
        if wait_for_question(live, run, question).get("response_received") is False:
            live.api.call("PATCH", question, {"chosen_options": ["Approve"], "params_input": {}})
        clock.sleep(1)
    assert live.api.run_state("chain_maintenance", run) == "success"
    assert chain_length(live, "third") < LAYERS
    assert content(live, "third", tmp_path) == originals["third"]


def wait_for_question(live: LiveFleet, run: str, question: str) -> dict[str, Any]:
    """The question, a moment after it was asked, as a person would see it; {} once the run is over."""
    for attempt in until_up(RUN_SECONDS):
        with attempt:
            if live.api.run_state("chain_maintenance", run) in FINISHED:
                return {}
            try:
                asked = dict(live.api.call("GET", question))
            except NotFound:
                raise Transient("nobody was asked") from None
            clock.sleep(3)
            return asked
    raise AssertionError


def test_down_ends_all_of_it_and_up_finds_the_data(live: LiveFleet, originals: dict[str, str], tmp_path: Path) -> None:
    lengths = {disk_id: chain_length(live, disk_id) for disk_id in DISKS}
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        started = live.processes()
        assert len(started) > 10
        assert live.down().code == 0
        assert [process for process in started if process.is_running() and process.status() != "zombie"] == []
        assert live.processes() == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert "Nothing was running" in live.down().out
    assert chainwright("status", "--state-dir", live.state.root).code == 1
    assert live.up().code == 0
    assert {disk_id: chain_length(live, disk_id) for disk_id in DISKS} == lengths
    assert live.api.call("GET", "/dags/disk_maintenance/dagRuns")["total_entries"] >= 4
    assert content(live, "first", tmp_path) == originals["first"]


def test_parts_that_were_killed_come_back_with_their_data(
    live: LiveFleet, originals: dict[str, str], tmp_path: Path
) -> None:
    """As after a power cut: kill -9 of the store, the caches and Airflow, then `up`."""
    killed = [process for process in live.processes() if process.ppid() == 1]
    assert len(killed) >= 5
    for process in killed:
        process.kill()
    psutil.wait_procs(killed, timeout=30)
    assert chainwright("status", "--state-dir", live.state.root).code == 1
    assert live.up().code == 0
    assert chainwright("status", "--state-dir", live.state.root).code == 0
    assert content(live, "second", tmp_path) == originals["second"]
