"""`chainwright maintain` as a person runs it; SIGTERM in the middle; a stored plan."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.errors import Permanent
from tasks.settings import Fleet
from tasks.stages import findings, inventory
from tasks.stages import plan as planning
from tasks.stages.apply import apply_action
from tasks.store.heads import HeadStore
from tests.support.chains import Chain, LayerSpec, build, guest_sha256, random_specs
from tests.support.cli import chainwright, write_fleet_toml
from tests.support.merges import Stores, disk_sha256, layer_keys, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return build(tmp_path / "chain", random_specs(random.Random(5), 7, LayerSpec(8 << 20), writes=4))


@pytest.fixture
def scanned(fleet: Fleet, stores: Stores, chain: Chain) -> Fleet:
    publish_chain(fleet, stores, chain, "d1")
    made = fleet.model_copy(update={"policy": replace(fleet.policy, max_chain_length=3)})
    inventory.run_inventory(made)
    return made


def test_dry_run_then_real(scanned: Fleet, stores: Stores, chain: Chain, tmp_path: Path) -> None:
    toml = write_fleet_toml(scanned, tmp_path / "fleet.toml")
    dry = chainwright("maintain", "d1", "--fleet", toml)
    assert dry.code == 0, dry.err
    assert "dry run" in dry.err
    assert layer_keys(stores) == set(chain.layers)
    real = chainwright("maintain", "d1", "--real", "--json", "--fleet", toml)
    assert real.code == 0, real.err
    (result,) = json.loads(real.out)["results"]
    assert (result["outcome"], result["layers_before"]) == ("published", 7)
    assert result["layers_after"] < 7
    assert disk_sha256(scanned, stores, "d1", tmp_path / "after") == guest_sha256(chain.path(chain.tip))


def test_a_stored_plan_is_carried_out_once(scanned: Fleet, stores: Stores, tmp_path: Path) -> None:
    toml = write_fleet_toml(scanned, tmp_path / "fleet.toml")
    made = planning.make_plan(scanned)
    first = chainwright("maintain", "--plan", made["plan_id"], "--real", "--fleet", toml)
    assert first.code == 0, first.err
    assert "published" in first.out
    version = HeadStore(stores["us-east"]).read("d1")
    again = chainwright("maintain", "--plan", made["plan_id"], "--real", "--fleet", toml)
    assert again.code == 0, again.err
    assert HeadStore(stores["us-east"]).read("d1") == version


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"protected_disks": ("d1",)}, "protected_disk"), ({"window": "00:00-00:00"}, "outside_window")],
)
def test_what_policy_forbids_by_now_is_not_carried_out(
    scanned: Fleet, stores: Stores, chain: Chain, changes: dict[str, object], reason: str
) -> None:
    """An action waits for a person, a pool or a retry: the window may be over, the disk protected."""
    made = planning.make_plan(scanned)
    before = HeadStore(stores["us-east"]).read("d1")
    later = scanned.model_copy(update={"policy": replace(scanned.policy, **changes)})
    done = apply_action(later, made["plan_id"], made["actions"][0]["action_id"], "late")
    assert done["outcome"] == "refused"
    assert done["reason"].startswith(reason)
    assert HeadStore(stores["us-east"]).read("d1") == before
    assert layer_keys(stores) == set(chain.layers)


def test_a_disk_whose_action_failed_waits_until_a_person_asks(scanned: Fleet, stores: Stores) -> None:
    """Else it would take its share of every run's budget, for ever, from disks that can be served."""
    item = planning.make_plan(scanned)["actions"][0]
    tight = scanned.model_copy(update={"work_bytes": 1})
    with pytest.raises(Permanent, match="work_bytes"):
        apply_action(tight, item["plan_id"], item["action_id"], "first")
    inventory.run_inventory(scanned)
    plan = planning.build(scanned)
    assert (plan.actions, [skip.reason for skip in plan.skips]) == ((), ["failed_before"])
    assert planning.make_plan(scanned, disks=["d1"])["actions"]


@pytest.mark.parametrize(("left", "code"), [("eu-west", "unknown_region"), ("us-east", "refused_layer")])
def test_a_disk_in_a_region_that_left_the_fleet_is_skipped(
    scanned: Fleet, stores: Stores, left: str, code: str
) -> None:
    """No task runs there: it took its share of every run's budget, and nobody was told."""
    heads = HeadStore(stores["us-east"])
    heads.swap(heads.read("d1"), "moved", home_region="eu-west")  # its layers stay in us-east
    inventory.run_inventory(scanned)
    folder, snapshot = findings.staged(scanned)
    small = scanned.model_copy(update={"regions": tuple(r for r in scanned.regions if r.name != left)})
    plan = planning.plan_of_manifest(folder, small, snapshot.snapshot_id, scanned.policy, planning.Options())
    assert (plan.actions, [skip.reason for skip in plan.skips]) == ((), [code])


def test_wrong_input_is_one_line(scanned: Fleet, stores: Stores, chain: Chain, tmp_path: Path) -> None:
    toml = write_fleet_toml(scanned, tmp_path / "fleet.toml")
    _refused(toml, "nobody", "nobody")
    _refused(toml, "magic", "d1", "--engine", "magic")
    _refused(toml, "no-such-plan", "--plan", "no-such-plan")
    HeadStore(stores["us-east"]).start("d1", "host-9")
    _refused(toml, "host-9", "d1")
    assert layer_keys(stores) == set(chain.layers)


def _refused(toml: Path, words: str, *arguments: str) -> None:
    ran = chainwright("maintain", *arguments, "--real", "--fleet", toml)
    assert ran.code == 1
    assert words in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert "Traceback" not in ran.err


def test_sigterm_leaves_nothing_behind(scanned: Fleet, stores: Stores, chain: Chain) -> None:
    made = planning.make_plan(scanned)
    code = (
        "import sys, time\n"
        "from tasks.settings import Fleet\n"
        "from tasks.stages import apply\n"
        "from tasks.execute import runner\n"
        "def slow(job, layer_id, parts):\n"
        "    print('uploading', flush=True)\n"
        "    time.sleep(60)\n"
        "runner.upload = slow\n"
        "fleet = Fleet.model_validate_json(sys.argv[1])\n"
        "apply.apply_action(fleet, sys.argv[2], sys.argv[3], 'cancelled')\n"
    )
    argv = [sys.executable, "-c", code, scanned.model_dump_json(), made["plan_id"], made["actions"][0]["action_id"]]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"uploading\n"
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=30)
    assert time.monotonic() - began < 5  # Airflow kills after that
    assert worker.returncode != 0
    head = HeadStore(stores["us-east"]).read("d1").head
    assert (head.tip, head.lease) == (chain.tip, None)
    assert layer_keys(stores) == set(chain.layers)
    assert not list(Path(scanned.work_dir).glob("*.d"))
