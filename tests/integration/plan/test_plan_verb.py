"""`chainwright plan` and the plan's stage on a real store."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.embedded.s3 import S3Server
from tasks.errors import ConfigError, NotFound, Permanent, PreconditionFailed, Refused
from tasks.plan.policy import Policy
from tasks.settings import Fleet
from tasks.stages import inventory
from tasks.stages import plan as planning
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store, open_stores
from tasks.store.heads import HeadStore
from tasks.store.plans import load_action, load_plan, store_plan
from tests.conftest import make_fleet
from tests.support.chains import LayerSpec, build, random_specs
from tests.support.cli import Ran, chainwright_here, write_fleet_toml
from tests.support.merges import publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]

POLICY = Policy(max_chain_length=4)


@pytest.fixture(scope="module")
def scanned(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Three idle disks (long, long, short), a running one, and two on one tip; scanned. Tests leave it as it was."""
    folder = tmp_path_factory.mktemp("fleet")
    fleet = make_fleet(s3_server, folder / "work")
    stores = open_stores(fleet)
    rng = random.Random(3)
    spec = LayerSpec(8 << 20)
    for disk, count in (("long-a", 9), ("long-b", 7), ("short", 3), ("running", 7), ("twin-1", 7)):
        chain = build(folder / disk, random_specs(rng, count, spec, writes=3))
        publish_chain(fleet, stores, chain, disk, ["us-east", "eu-west"] if disk == "long-b" else [])
    heads = HeadStore(stores["us-east"])
    heads.start("running", "host-1")
    heads.clone("twin-1", "twin-2")
    made = fleet.model_copy(update={"policy": POLICY})
    inventory.run_inventory(made)
    return made


@pytest.fixture
def control(scanned: Fleet) -> ObjectStore:
    return control_store(scanned)


def _cli(fleet: Fleet, tmp_path: Path, *args: str) -> Ran:
    return chainwright_here("plan", *args, "--fleet", write_fleet_toml(fleet, tmp_path / "fleet.toml"))


def test_stage(scanned: Fleet, control: ObjectStore) -> None:
    made = planning.make_plan(scanned)
    assert {item["disk_id"]: item["kind"] for item in made["actions"]} == {"long-a": "merge", "long-b": "merge"}
    assert made["bytes"] > 0
    plan = load_plan(control, made["plan_id"])
    assert {skip.disk_id: skip.reason for skip in plan.skips} == {
        "running": "running_disk",
        "short": "chain_short_enough",
        "twin-1": "shared_layer",
        "twin-2": "shared_layer",
    }
    action = plan.actions[0]
    assert load_action(control, plan.plan_id, action.action_id) == action
    with pytest.raises(NotFound, match="no action 'merge-0'"):
        load_action(control, plan.plan_id, "merge-0")
    assert action.disk_id in planning.explain_plan(scanned, plan.plan_id)
    assert "not live: offline" in planning.explain_plan(scanned, plan.plan_id, action.disk_id)
    store_plan(control, plan)
    with pytest.raises(PreconditionFailed):
        store_plan(control, replace(plan, created_at="never"))


def test_a_head_that_moved_since_the_scan_is_dropped(scanned: Fleet, control: ObjectStore) -> None:
    heads = HeadStore(control)
    heads.start("long-a", "host-1")
    plan = planning.build(scanned)
    assert [action.disk_id for action in plan.actions] == ["long-b"]
    assert {skip.reason for skip in plan.skips if skip.disk_id == "long-a"} == {"running_disk"}
    heads.stop("long-a")
    held = heads.acquire_lease("long-b", "another", "attempt", 600)
    assert {skip.reason for skip in planning.build(scanned).skips if skip.disk_id == "long-b"} == {"leased"}
    assert heads.withdraw(held)
    assert len(planning.build(scanned).actions) == 2


def test_one_disk_that_a_person_asks_for(scanned: Fleet) -> None:
    made = planning.make_plan(scanned, disks=("short",))
    assert [item["disk_id"] for item in made["actions"]] == ["short"]
    made = planning.make_plan(scanned, disks=("long-a",), engine="stream")
    assert [item["engine"] for item in made["actions"]] == ["stream"]
    with pytest.raises(Refused, match="running_disk: disk running"):
        planning.make_plan(scanned, disks=("running",))
    with pytest.raises(Refused, match="shared_layer: disk twin-1"):
        planning.make_plan(scanned, disks=("twin-1",))
    with pytest.raises(NotFound, match="no disk 'nobody'"):
        planning.make_plan(scanned, disks=("nobody",))
    with pytest.raises(ConfigError, match="unknown engine 'magic'"):
        planning.make_plan(scanned, engine="magic")


def test_verb(scanned: Fleet, tmp_path: Path) -> None:
    shown = _cli(scanned, tmp_path)
    assert shown.code == 0, shown.err
    for word in ("2 merges", "long-a", "4 left alone", "running_disk", "9 → ", "budgets"):
        assert word in shown.out
    about = _cli(scanned, tmp_path, "--explain", "long-b")
    assert "because chain_too_long" in about.out
    assert "fetched from eu-west" in about.out
    assert "skipped, running_disk" in _cli(scanned, tmp_path, "--explain", "running").out
    small = _cli(scanned, tmp_path, "--budget", "actions=1", "--json").json
    assert len(small["actions"]) == 1
    assert "over_budget" in {skip["reason"] for skip in small["skips"]}
    saved = _cli(scanned, tmp_path, "short", "--save", "--json").json
    again = _cli(scanned, tmp_path, "--plan", saved["plan_id"], "--json").json
    assert again == saved


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("--budget", "gold=1"), 1, "unknown budget 'gold'"),
        (("--budget", "read_bytes"), 2, "is not KEY=NUMBER"),
        (("--budget", "read_bytes=many"), 2, "is not KEY=NUMBER"),
        (("--plan", "plan-0"), 1, "no plan 'plan-0'"),
        (("--explain", "nobody"), 1, "no disk 'nobody'"),
        (("nobody",), 1, "no disk 'nobody'"),
    ],
)
def test_wrong_use(scanned: Fleet, tmp_path: Path, args: tuple[str, ...], code: int, text: str) -> None:
    ran = _cli(scanned, tmp_path, *args)
    assert ran.code == code
    assert text in " ".join(ran.err.split())
    if code == 1:
        assert ran.line


def test_before_the_first_scan(fleet: Fleet) -> None:
    control = control_store(fleet)
    with pytest.raises(NotFound, match=r"no manifest yet; run `chainwright scan`"):
        planning.build(fleet)
    control.put_new(keys.plan("broken"), b"{}")
    with pytest.raises(Permanent, match=r"broken\.json: not a plan"):
        load_plan(control, "broken")
