"""Every verb of the life cycle in a wrong state: one line that says what and where, exit code 1, nothing changed."""

from pathlib import Path

import pytest

from tasks.chain.head import Head
from tasks.settings import Fleet
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.heads import HeadStore
from tests.support.cli import chainwright_here, write_fleet_toml
from tests.support.qcow2_bytes import DATA, Image, build

pytestmark = pytest.mark.s3
BASE, TIP, GONE = (letter * 32 for letter in "abf")

# (arguments, what the line must say); FILE is an existing file, NEW one that is not there
WRONG = [
    ("head show nobody", "no disk 'nobody' in us-east-"),
    ("head show ../../etc/passwd", "is no disk id"),
    ("head start nobody", "no disk 'nobody'"),
    ("head start running", "disk_running: disk running already runs on host-1"),
    ("head start snap", "snapshot_head: snap is a snapshot"),
    ("head start idle --qmp http://x", "QMP address 'http://x'"),
    ("head start idle --overlay NEW", "no such file; `chainwright head tip` makes it"),
    ("head tip nobody NEW", "no disk 'nobody'"),
    ("head tip running NEW", "disk_running"),
    ("head tip snap NEW", "snapshot_head"),
    ("head tip idle FILE", "file_exists: "),
    ("head tip broken NEW", f"layer_missing: disk broken: its tip {GONE}"),
    ("head snapshot nobody s1", "no disk 'nobody'"),
    ("head snapshot idle s1", "disk_idle: disk idle does not run"),
    ("head snapshot running s1", "no_qmp: disk running"),
    ("head snapshot monitored idle", "disk_exists: idle is there already"),
    ("head snapshot monitored s1", "QMP /nowhere/qmp.sock"),
    ("head stop nobody", "no disk 'nobody'"),
    ("head stop idle", "disk_idle: disk idle does not run"),
    ("head stop snap", "disk_idle: disk snap does not run"),
    ("head stop running --overlay NEW", "No such file"),
    ("head stop idle --discard", "disk_idle"),
    ("head clone nobody new", "no disk 'nobody'"),
    ("head clone idle snap", "disk_exists: disk snap is there already"),
    ("head clone idle new --region mars", "unknown region 'mars'"),
    ("head clone idle a/b", "'a/b' is no disk id"),
    ("live nobody --real", "no disk 'nobody'"),
    ("live idle --real", "disk_idle"),
    ("live running --real", "no_qmp"),
    ("live monitored --real --base " + BASE, "QMP /nowhere/qmp.sock"),
    ("live monitored --job pause", "no stream was started"),
    ("live monitored --job stop", "'stop': pause, resume or cancel"),
    ("undo nobody", "no disk 'nobody'"),
    ("undo idle", "nothing_to_undo: disk idle: no action has swung this head"),
    ("undo running", "nothing_to_undo"),
    ("maintain nobody --real", "no disk 'nobody'"),
    ("maintain running --real", "disk_running: disk running is running on host-1"),
    ("maintain --plan nothing --real", "no plan 'nothing'"),
    ("export nobody NEW", "no disk 'nobody'"),
    ("warm idle --region us-east", "us-east.cache_url: the region has no cache to warm"),
    ("warm idle --region mars", "unknown region 'mars'"),
    ("blockdev nobody", "no disk 'nobody'"),
    ("inspect NEW", "No such file"),
]


@pytest.fixture
def toml(fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path) -> Path:
    """Disks in every state, on a chain of two layers."""
    stores["us-east"].put_new(keys.layer(BASE), build(Image({0: DATA})))
    stores["us-east"].put_new(keys.layer(TIP), build(Image({1: DATA}, backing=f"{BASE}.qcow2")))
    heads = HeadStore(stores["us-east"])
    for name in ("idle", "running", "monitored"):
        heads.create(Head(name, TIP, "disk", "us-east"))
    heads.create(Head("snap", TIP, "snapshot", "us-east"))
    heads.create(Head("broken", GONE, "disk", "us-east"))
    heads.start("running", "host-1")
    heads.start("monitored", "host-1", "unix:/nowhere/qmp.sock")
    return write_fleet_toml(fleet, tmp_path / "fleet.toml")


def records(stores: dict[str, ObjectStore]) -> list[tuple[str, str]]:
    """Everything but what an inventory or a plan writes."""
    mine = (keys.HEADS, keys.LAYERS, keys.ACTIONS, keys.TOMBSTONES)
    return [(item.key, item.etag) for store in stores.values() for item in store.list("") if item.key.startswith(mine)]


@pytest.mark.parametrize(("command", "says"), WRONG, ids=[command for command, _ in WRONG])
def test_wrong_state(toml: Path, stores: dict[str, ObjectStore], tmp_path: Path, command: str, says: str) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"")
    before = records(stores)
    names = {"FILE": str(there), "NEW": str(tmp_path / "new.qcow2")}
    ran = chainwright_here(*(names.get(word, word) for word in command.split()), "--fleet", toml)
    assert says in ran.line
    assert records(stores) == before
    assert not (tmp_path / "new.qcow2").exists()


@pytest.mark.parametrize(
    "command",
    [
        "head",
        "maintain running --engine live --real",
        "head stop",
        "head clone idle",
        "live",
        "undo",
        "maintain --real",
        "retire --max-share 2",
        "nonsense",
    ],
)
def test_wrong_usage_is_exit_code_2(toml: Path, command: str) -> None:
    more = () if command == "nonsense" or command == "head" else ("--fleet", toml)
    ran = chainwright_here(*command.split(), *more)
    assert ran.code == 2
    assert "Traceback" not in ran.err
