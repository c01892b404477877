"""Wrong input to import, export and head: one line that names what and where, exit code 1, nothing changed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.chain.head import Head
from tasks.settings import Fleet
from tasks.stages import export as export_stage
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.heads import HeadStore
from tests.support.cli import Ran, chainwright, chainwright_here, write_fleet_toml
from tests.support.ports import free_port
from tests.support.qcow2_bytes import DATA, Image, build

pytestmark = pytest.mark.s3
BASE_ID, MID_ID, TIP_ID = (letter * 32 for letter in "abc")


@pytest.fixture
def toml(fleet: Fleet, tmp_path: Path) -> Path:
    return write_fleet_toml(fleet, tmp_path / "fleet.toml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound chain tip.qcow2 -> mid.qcow2 -> base.qcow2."""
    files = tmp_path / "in"
    files.mkdir()
    for name, backing in (("base", None), ("mid", "base.qcow2"), ("tip", "mid.qcow2")):
        (files / f"{name}.qcow2").write_bytes(build(Image({0: DATA}, backing=backing)))
    return files


def everything(stores: dict[str, ObjectStore]) -> dict[str, list[tuple[str, str]]]:
    """All objects and all unfinished uploads."""
    return {
        region: [(item.key, item.etag) for item in store.list("")]
        + [(u.key, u.upload_id) for u in store.list_multipart("")]
        for region, store in stores.items()
    }


@pytest.fixture
def unchanged(stores: dict[str, ObjectStore]) -> Iterator[None]:
    """Fails the test if the fleet's buckets are not as before."""
    HeadStore(stores["us-east"]).create(Head("there", TIP_ID, "disk", "us-east", virtual_size=1 << 20))
    before = everything(stores)
    yield
    assert everything(stores) == before


def import_(
    folder: Path, toml: Path, *more: str, disk: str = "vm", tip: str = "tip.qcow2", region: str = "us-east"
) -> Ran:
    args = ("import", folder, "--disk", disk, "--tip", tip, "--region", region, "--fleet", toml)
    return chainwright_here(*args, *more)


BACKING_NAMES = [
    ("gone.qcow2", "backing_missing"),
    ("tip.qcow2", "backing_cycle"),
    ("mid.qcow2", "backing_self"),
    ("/etc/passwd", "backing_absolute"),
    ("../base.qcow2", "backing_dotdot"),
    ("sub/base.qcow2", "backing_path"),
    ("nbd://127.0.0.1/x", "backing_protocol"),
    ('json:{"driver":"file"}', "backing_json"),
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("name", "reason"), BACKING_NAMES)
def test_import_of_a_wrong_backing_name(folder: Path, toml: Path, name: str, reason: str) -> None:
    (folder / "mid.qcow2").write_bytes(build(Image({0: DATA}, backing=name)))
    line = import_(folder, toml).line
    assert reason in line
    assert "qcow2" in line.split(reason, 1)[1]


@pytest.mark.usefixtures("unchanged")
def test_import_of_unsound_files(folder: Path, toml: Path, tmp_path: Path) -> None:
    body = (folder / "base.qcow2").read_bytes()
    (folder / "base.qcow2").write_bytes(body[:600])
    assert f"{folder}/base.qcow2" in import_(folder, toml).line
    (folder / "base.qcow2").write_bytes(b"#!/bin/sh\n" * 100)
    assert "bad_magic" in import_(folder, toml).line
    (folder / "base.qcow2").unlink()
    (folder / "base.qcow2").symlink_to(tmp_path / "elsewhere.qcow2")
    (tmp_path / "elsewhere.qcow2").write_bytes(body)
    assert "backing_outside" in import_(folder, toml).line
    (folder / "mid.qcow2").write_bytes(build(Image({0: DATA}, backing="base.qcow2", backing_format="raw")))
    assert "backing_format_raw" in import_(folder, toml).line
    (folder / "mid.qcow2").write_bytes(build(Image({0: DATA}, backing="base.qcow2", backing_format=None)))
    assert "backing_format_missing" in import_(folder, toml).line


@pytest.mark.usefixtures("unchanged")
def test_import_with_wrong_options(folder: Path, toml: Path, tmp_path: Path) -> None:
    assert f"{tmp_path}/none: no such folder" in import_(tmp_path / "none", toml).line
    assert f"{folder}/none.qcow2: no such file" in import_(folder, toml, tip="none.qcow2").line
    assert "'sub/tip.qcow2': the name of a file" in import_(folder, toml, tip="sub/tip.qcow2").line
    assert "unknown region 'mars': this fleet has us-east" in import_(folder, toml, region="mars").line
    assert "unknown region 'mars'" in import_(folder, toml, "--layer-region", "mid.qcow2=mars").line
    assert "x.qcow2 is not in the chain" in import_(folder, toml, "--layer-region", "x.qcow2=eu-west").line
    assert "expected FILE=REGION" in import_(folder, toml, "--layer-region", "eu-west").line
    assert "'../x' is no disk id" in import_(folder, toml, disk="../x").line
    assert "disk_exists: disk there is there already" in import_(folder, toml, disk="there").line
    assert import_(folder, toml, "--nonsense").code == 2


def broken(fleet: Fleet, tmp_path: Path, region: str, **changes: Any) -> Path:
    """A fleet.toml with one region changed."""
    regions = fleet.model_dump(mode="json")["regions"]
    for section in regions:
        if section["name"] == region:
            section.update(changes)
    return write_fleet_toml(fleet, tmp_path / f"broken-{region}.toml", regions=regions)


VERBS = [("import", "IN", "--disk", "vm", "--tip", "tip.qcow2", "--region", "us-east"), ("head", "show", "there")]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("verb", VERBS, ids=["import", "head"])
def test_unusable_control_store(
    fleet: Fleet, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    args = [str(folder) if arg == "IN" else arg for arg in verb]
    control = fleet.region("us-east")
    dead = f"http://127.0.0.1:{free_port()}"
    line = chainwright_here(*args, "--fleet", broken(fleet, tmp_path, "us-east", endpoint=dead)).line
    assert dead in line
    assert control.bucket in line
    line = chainwright_here(*args, "--fleet", broken(fleet, tmp_path, "us-east", bucket="no-such-bucket")).line
    assert "no-such-bucket" in line
    monkeypatch.setenv("WRONG_SECRET", "x" * 32)
    unset = {"access_key_env": "UNSET_KEY", "secret_key_env": "WRONG_SECRET"}
    line = chainwright_here(*args, "--fleet", broken(fleet, tmp_path, "us-east", **unset)).line
    assert "region us-east: the environment variable UNSET_KEY (credentials) is not set" in line
    wrong = {"access_key_env": "AWS_ACCESS_KEY_ID", "secret_key_env": "WRONG_SECRET"}
    line = chainwright_here(*args, "--fleet", broken(fleet, tmp_path, "us-east", **wrong)).line
    assert f"{control.endpoint} {control.bucket}/" in line
    assert "wrong credentials" in line
    line = chainwright_here(*args, "--fleet", broken(fleet, tmp_path, "us-east", endpoint="not a url")).line
    assert "regions.us-east.endpoint" in line


@pytest.mark.usefixtures("unchanged")
def test_import_into_an_unreachable_region_sends_nothing_elsewhere(fleet: Fleet, folder: Path, tmp_path: Path) -> None:
    toml = broken(fleet, tmp_path, "eu-west", endpoint=f"http://127.0.0.1:{free_port()}")
    assert fleet.region("eu-west").bucket in import_(folder, toml, "--layer-region", "mid.qcow2=eu-west").line


MALFORMED = [
    ("name = ", "fleet.toml"),
    ("control_region = 'us-east'", "regions: Field required"),
    ("control_region = 'x'\nregions = []", "control_region: 'x'"),
    ("control_region = 'a'\n[[regions]]\nname = 'a'\nendpoint = ''\nbucket = 'abc'\nbuket = 1", "regions.0.buket"),
    ("control_region = 'a'\n[[regions]]\nname = 'A b'\nendpoint = ''\nbucket = 'abc'", "regions.0.name"),
    ("control_region = 'a'\nregions = 5", "regions"),
]


@pytest.mark.parametrize(("text", "place"), MALFORMED)
def test_malformed_fleet_toml(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    for verb in (("head", "show", "vm"), ("export", "vm", tmp_path / "out.raw"), ("doctor",)):
        line = chainwright_here(*verb, "--fleet", path).line
        assert str(path) in line
        assert place in line
    assert "no such file" in chainwright_here("head", "show", "vm", "--fleet", tmp_path / "none.toml").line


def put_chain(store: ObjectStore, *layers: tuple[str, str | None]) -> None:
    for layer_id, parent in layers:
        backing = f"{parent}.qcow2" if parent else None
        store.put_new(keys.layer(layer_id), build(Image({0: DATA}, backing=backing)))


def export(toml: Path, out: Path, disk: str = "vm") -> Ran:
    return chainwright_here("export", disk, out, "--fleet", toml)


def test_export_of_what_cannot_be_exported(
    fleet: Fleet, stores: dict[str, ObjectStore], toml: Path, tmp_path: Path
) -> None:
    store, out = stores["us-east"], tmp_path / "out.raw"
    assert "no disk 'vm'" in export(toml, out).line
    HeadStore(store).create(Head("vm", TIP_ID, "disk", "us-east"))
    assert f"layer_missing: layer {TIP_ID}.qcow2" in export(toml, out).line
    put_chain(store, (TIP_ID, MID_ID))
    line = export(toml, out).line
    assert f"layer_missing: layer {MID_ID}.qcow2, the backing file of layer {TIP_ID}" in line
    assert "ap-south, eu-west, us-east" in line
    put_chain(store, (MID_ID, BASE_ID), (BASE_ID, MID_ID))
    assert "backing_cycle" in export(toml, out).line
    store.delete(keys.layer(BASE_ID))
    store.put_new(keys.layer(BASE_ID), build(Image({0: DATA}, backing="/etc/passwd")))
    assert f"backing_absolute: layer {BASE_ID}.qcow2 in us-east" in export(toml, out).line
    store.delete(keys.layer(BASE_ID))
    put_chain(store, (BASE_ID, None))
    assert f"{tmp_path}/none: no such folder" in export(toml, tmp_path / "none" / "out.raw").line
    assert f"{tmp_path} is a folder" in export(toml, tmp_path).line
    assert chainwright_here("export", "vm", out, "--format", "vmdk", "--fleet", toml).code == 2
    far = broken(fleet, tmp_path, "eu-west", endpoint=f"http://127.0.0.1:{free_port()}")
    store.delete(keys.layer(MID_ID))
    assert fleet.region("eu-west").bucket in export(far, out).line  # unreachable is not absent
    assert not out.exists()


def test_export_into_an_unusable_work_directory(fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path) -> None:
    put_chain(stores["us-east"], (TIP_ID, None))
    HeadStore(stores["us-east"]).create(Head("vm", TIP_ID, "disk", "us-east"))
    (tmp_path / "file").write_text("not a folder")
    toml = write_fleet_toml(fleet, tmp_path / "fleet.toml", work_dir=str(tmp_path / "file"))
    assert f"work directory {tmp_path}/file" in export(toml, tmp_path / "out.raw").line


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "full"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("may not mount a small file system here (needs root)")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_no_space(fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path, full_disk: Path) -> None:
    """Said before the first byte is fetched, for the work directory and for the target's folder."""
    image = Image(dict.fromkeys(range(4096), DATA), virtual_size=4 << 20, cluster_bits=10)
    stores["us-east"].put_new(keys.layer(TIP_ID), build(image))
    HeadStore(stores["us-east"]).create(Head("vm", TIP_ID, "disk", "us-east"))
    toml = write_fleet_toml(fleet, tmp_path / "fleet.toml", work_dir=str(full_disk / "work"))
    line = export(toml, tmp_path / "out.raw").line
    assert f"no_space: work directory {full_disk}/work" in line
    assert "needs 4." in line
    assert shutil.disk_usage(full_disk).used < 64 << 10
    toml = write_fleet_toml(fleet, tmp_path / "fleet.toml")
    assert f"no_space: folder {full_disk}" in export(toml, full_disk / "out.raw").line
    assert [path.name for path in full_disk.iterdir()] == ["work"]
    assert export(toml, tmp_path / "out.raw").code == 0


@pytest.mark.parametrize("full", ["work", "out"])
def test_space_that_others_take_meanwhile(
    fleet: Fleet,
    stores: dict[str, ObjectStore],
    tmp_path: Path,
    full_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    full: str,
) -> None:
    """The check came too early: still one line, nothing half in place, and the next run goes on."""
    stores["us-east"].put_new(keys.layer(TIP_ID), build(Image(dict.fromkeys(range(4096), DATA), 4 << 20, 10)))
    HeadStore(stores["us-east"]).create(Head("vm", TIP_ID, "disk", "us-east"))
    work = full_disk / "work" if full == "work" else tmp_path / "work"
    out = full_disk / "out.raw" if full == "out" else tmp_path / "out.raw"
    toml = write_fleet_toml(fleet, tmp_path / "fleet.toml", work_dir=str(work))
    monkeypatch.setattr(export_stage, "_check_space", lambda *args: None)
    line = export(toml, out).line
    assert "No space left" in line
    assert not out.exists()
    assert not list(out.parent.glob(".out*"))
    monkeypatch.undo()
    toml = write_fleet_toml(fleet, tmp_path / "fleet.toml", work_dir=str(tmp_path / "work"))
    assert export(toml, tmp_path / "out.raw").code == 0


def test_no_traceback_in_a_real_process(toml: Path, folder: Path) -> None:
    (folder / "mid.qcow2").write_bytes(os.urandom(4096))
    args = ("--disk", "vm", "--tip", "tip.qcow2", "--region", "us-east", "--fleet", toml)
    assert "bad_magic" in chainwright("import", folder, *args).line
