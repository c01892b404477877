"""Import and export on real chains, the real server and real crashes: content in is content out."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.errors import Permanent
from tasks.settings import Fleet
from tasks.stages import export
from tasks.stages.transfer import import_disk
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store
from tasks.store.heads import HeadStore
from tasks.units import KIB, MIB
from tests.support.chains import Chain, LayerSpec, build, guest_sha256
from tests.support.cli import REPO, chainwright, chainwright_here, write_fleet_toml
from tests.support.qcow2_bytes import DATA, Image
from tests.support.qcow2_bytes import build as image_bytes

pytestmark = [pytest.mark.s3, pytest.mark.qemu]

MIXED = [
    LayerSpec(size=8 * MIB, writes=(("write", 0, 3 * MIB, 1), ("write", 7 * MIB, MIB, 2))),
    LayerSpec(size=6 * MIB, writes=(("zero", MIB, MIB, 0), ("compressed", 2 * MIB, 256 * KIB, 3))),
    LayerSpec(size=12 * MIB, version=2, cluster_size=4 * KIB, writes=(("write", 5 * MIB + 512, 1536, 4),)),
    LayerSpec(size=12 * MIB + 512, extended_l2=True, cluster_size=2 * MIB, writes=(("discard", 0, 64 * KIB, 0),)),
    LayerSpec(size=12 * MIB + 512, compression="zstd", writes=(("compressed", 4 * MIB, 64 * KIB, 9),)),
]


@pytest.fixture
def toml(fleet: Fleet, tmp_path: Path) -> Path:
    return write_fleet_toml(fleet, tmp_path / "fleet.toml")


def file_of(chain: Chain) -> str:
    return chain.path(chain.tip).name


def do_import(chain: Chain, disk: str, toml: Path, *more: str) -> dict[str, object]:
    args = ("--disk", disk, "--tip", file_of(chain), "--region", "us-east", "--fleet", toml, "--json")
    ran = chainwright_here("import", chain.folder, *args, *more)
    assert ran.code == 0, ran.err
    return ran.json


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_any_mix_of_layers_comes_back_unchanged(stores: dict[str, ObjectStore], toml: Path, tmp_path: Path) -> None:
    chain = build(tmp_path / "in", MIXED)
    before, expected = digests(chain.folder), guest_sha256(chain.path(chain.tip))
    regions = [f"--layer-region={chain.path(chain.layers[n]).name}={r}" for n, r in ((0, "eu-west"), (3, "ap-south"))]
    made = do_import(chain, "vm", toml, *regions)
    assert made["created"] is True
    assert [layer["region"] for layer in made["layers"]] == ["eu-west", "us-east", "us-east", "ap-south", "us-east"]
    for layer in made["layers"]:
        body, _ = stores[layer["region"]].get(keys.layer(layer["layer_id"]))
        assert hashlib.sha256(body).hexdigest() == layer["sha256"]
    for image_format in ("raw", "qcow2"):
        out = tmp_path / f"out.{image_format}"
        ran = chainwright_here("export", "vm", out, "--format", image_format, "--fleet", toml, "--json")
        assert (ran.code, ran.json["guest_sha256"]) == (0, expected), ran.err
        assert guest_sha256(out, image_format) == expected
        info = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", "-f", image_format, out]))
        assert info["virtual-size"] == 12 * MIB + 512
        assert "backing-filename" not in info
    assert digests(chain.folder) == before
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())
    assert not list((tmp_path / "work" / "export").iterdir())


def test_fork_shares_its_base_and_repeating_is_a_no_op(
    stores: dict[str, ObjectStore], toml: Path, tmp_path: Path
) -> None:
    spec = LayerSpec(size=4 * MIB, writes=(("write", 0, MIB, 7),))
    left = build(tmp_path / "in", [spec, spec])
    right = build(left.folder, [LayerSpec(size=4 * MIB, writes=(("write", MIB, MIB, 8),))], onto=left)
    left_again = Chain(left.folder, left.layers)
    first = do_import(left_again, "left", toml)
    second = do_import(right, "right", toml)
    assert [layer["reused"] for layer in second["layers"]] == [True, True, False]
    assert [layer["layer_id"] for layer in second["layers"]][:2] == [layer["layer_id"] for layer in first["layers"]]
    listed = [item for store in stores.values() for item in store.list(keys.LAYERS)]
    assert len(listed) == 3
    again = do_import(right, "right", toml)
    assert (again["created"], again["uploaded_bytes"]) == (False, 0)
    assert [item for store in stores.values() for item in store.list(keys.LAYERS)] == listed


def test_layer_under_a_tombstone_is_not_built_upon(fleet: Fleet, toml: Path, tmp_path: Path) -> None:
    """Its object may be deleted at any moment: the import takes another id, and the same one when it is repeated."""
    chain = build(tmp_path / "in", [LayerSpec(size=MIB), LayerSpec(size=MIB)])
    base = do_import(chain, "old", toml)["layers"][0]["layer_id"]
    control_store(fleet).put_new(keys.tombstone(base), b"{}")
    new = [layer["layer_id"] for layer in do_import(chain, "new", toml)["layers"]]
    assert base not in new
    again = do_import(chain, "new", toml)
    assert ([layer["layer_id"] for layer in again["layers"]], again["created"]) == (new, False)


def test_snapshot_head_of_an_interior_layer(fleet: Fleet, toml: Path, tmp_path: Path) -> None:
    chain = build(tmp_path / "in", [LayerSpec(size=MIB)] * 3)
    do_import(chain, "vm", toml)
    do_import(Chain(chain.folder, chain.layers[:2]), "vm-nightly", toml, "--snapshot")
    head = HeadStore(control_store(fleet)).read("vm-nightly").head
    assert head.kind == "snapshot"
    assert head.tip != HeadStore(control_store(fleet)).read("vm").head.tip


def killed_when(argv: list[str], due: Callable[[], bool]) -> int:
    """Run a verb in a group of its own, kill -9 the group as soon as it is due; the exit code."""
    code = "import sys; from tasks.cli.main import main; sys.exit(main())"
    child = subprocess.Popen(
        [sys.executable, "-c", code, *argv], cwd=REPO, start_new_session=True, stdout=-3, stderr=-3
    )
    deadline = time.monotonic() + 120
    while child.poll() is None and not due():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    return child.wait()


def test_killed_import_is_continued(fleet: Fleet, stores: dict[str, ObjectStore], toml: Path, tmp_path: Path) -> None:
    specs = [LayerSpec(size=64 * MIB, writes=(("write", n * MIB, 9 * MIB, n + 1),)) for n in range(8)]
    chain = build(tmp_path / "in", specs)
    expected = guest_sha256(chain.path(chain.tip))
    argv = ["import", str(chain.folder), "--disk", "vm", "--tip", file_of(chain), "--region", "us-east"]
    kills = 0
    for layers in (1, 3, 6):
        due = lambda count=layers: len(list(stores["us-east"].list(keys.LAYERS))) >= count  # noqa: E731
        kills += killed_when([*argv, "--fleet", str(toml)], due) == -signal.SIGKILL
        heads = [head.disk_id for head, _ in HeadStore(control_store(fleet)).list()]
        assert heads in ([], ["vm"])
        for item in stores["us-east"].list(keys.LAYERS):  # what is visible is whole
            body, _ = stores["us-east"].get(item.key)
            assert keys.layer(hashlib.sha256(body).hexdigest()[:32]) == item.key
    assert kills >= 2
    done = do_import(chain, "vm", toml)
    assert sum(layer["reused"] for layer in done["layers"]) >= 3
    assert len(list(stores["us-east"].list(keys.LAYERS))) == 8
    ran = chainwright_here("export", "vm", tmp_path / "out.raw", "--fleet", toml, "--json")
    assert ran.json["guest_sha256"] == expected


def test_killed_export_is_continued(toml: Path, tmp_path: Path) -> None:
    specs = [LayerSpec(size=64 * MIB, writes=(("write", 0, 20 * MIB, n + 1),)) for n in range(4)]
    chain = build(tmp_path / "in", specs)
    stored = sum(layer["size"] for layer in do_import(chain, "vm", toml)["layers"])
    out = tmp_path / "out" / "disk.raw"
    out.parent.mkdir()
    parts = tmp_path / "work" / "export" / "vm" / "parts"

    def some() -> bool:
        return parts.is_dir() and sum(path.stat().st_size for path in parts.glob("*")) > 9 * MIB

    assert killed_when(["export", "vm", str(out), "--fleet", str(toml)], some) == -signal.SIGKILL
    assert not out.exists()
    ran = chainwright_here("export", "vm", out, "--fleet", toml, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["resumed_bytes"] >= 8 * MIB
    assert ran.json["resumed_bytes"] + ran.json["fetched_bytes"] == stored
    assert hashlib.sha256(out.read_bytes()).hexdigest() == ran.json["guest_sha256"]
    assert ran.json["guest_sha256"] == guest_sha256(chain.path(chain.tip))
    assert [path.name for path in out.parent.iterdir()] == ["disk.raw"]


def test_imports_at_the_same_time(fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path) -> None:
    """The same disk from two workers, and a fork beside it: one head each, every layer once."""
    spec = LayerSpec(size=24 * MIB, writes=(("write", 0, 20 * MIB, 7),))
    left = build(tmp_path / "in", [spec, spec])
    right = build(left.folder, [replace(spec, writes=(("write", MIB, MIB, 8),))], onto=left)
    jobs = [("left", left), ("left", left), ("right", right)]
    with ThreadPoolExecutor(3) as pool:
        run = lambda job: import_disk(fleet, left.folder, job[0], file_of(job[1]), "us-east")  # noqa: E731
        done = list(pool.map(run, jobs))
    assert done[0].tip == done[1].tip == done[2].layers[1].layer_id
    assert len(list(stores["us-east"].list(keys.LAYERS))) == 3
    assert list(stores["us-east"].list_multipart("")) == []
    assert [head.disk_id for head, _ in HeadStore(control_store(fleet)).list()] == ["left", "right"]


def test_export_replaces_only_with_force(toml: Path, tmp_path: Path) -> None:
    chain = build(tmp_path / "in", [LayerSpec(size=MIB, writes=(("write", 0, 4096, 5),))])
    do_import(chain, "vm", toml)
    out = tmp_path / "out.raw"
    out.write_bytes(b"mine")
    assert "output_exists" in chainwright_here("export", "vm", out, "--fleet", toml).line
    assert out.read_bytes() == b"mine"
    assert chainwright_here("export", "vm", out, "--force", "--fleet", toml).code == 0
    assert out.stat().st_size == MIB


def test_result_that_is_not_the_chain_is_thrown_away(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were qemu-img wrong (hazard 20), or the disk under it, our own reader would see it before the file appears."""
    spec = LayerSpec(size=4 * MIB, writes=(("write", 0, MIB, 7), ("compressed", 2 * MIB, 64 * KIB, 8)))
    chain = build(tmp_path / "in", [spec, replace(spec, writes=(("zero", 64 * KIB, 128 * KIB, 0),))])
    import_disk(fleet, chain.folder, "vm", file_of(chain), "us-east")
    out, honest = tmp_path / "out" / "disk.raw", export.img.convert
    out.parent.mkdir()

    def lying(image: object, target: Path, to: str, **options: object) -> None:
        honest(image, target, to, **options)
        with target.open("r+b") as file:
            file.seek(100 * KIB)  # where the tip has zeros
            file.write(b"\7")

    monkeypatch.setattr(export.img, "convert", lying)
    with pytest.raises(Permanent, match="not the chain: the images differ in the 64 KiB at guest offset 65536"):
        export.export_disk(fleet, "vm", out)
    assert list(out.parent.iterdir()) == []
    monkeypatch.undo()
    assert export.export_disk(fleet, "vm", out).guest_sha256 == guest_sha256(chain.path(chain.tip))


def test_layer_file_that_changed_in_the_work_directory_is_fetched_again(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = build(tmp_path / "in", [LayerSpec(size=MIB, writes=(("write", 0, MIB, 7),))] * 2)
    import_disk(fleet, chain.folder, "vm", file_of(chain), "us-east")

    def killed(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export.img, "convert", killed)
    with pytest.raises(KeyboardInterrupt):
        export.export_disk(fleet, "vm", tmp_path / "out.raw")
    monkeypatch.undo()
    parts = sorted(path for path in (tmp_path / "work" / "export" / "vm" / "parts").iterdir() if not path.suffix)
    assert len(parts) == 2
    body = bytearray(parts[0].read_bytes())
    body[-1] ^= 0xFF  # guest data: no header check would see it
    parts[0].write_bytes(bytes(body))
    done = export.export_disk(fleet, "vm", tmp_path / "out.raw")
    assert done.guest_sha256 == guest_sha256(chain.path(chain.tip))


@pytest.mark.parametrize("name", [os.fsdecode(b"tip\xff.qcow2"), "tip\u0142\U0001f600.qcow2"], ids=["bytes", "letters"])
@pytest.mark.parametrize("locale", [{}, {"PYTHONIOENCODING": "iso8859-1"}], ids=["utf-8", "latin-1"])
def test_names_that_the_locale_cannot_print(fleet: Fleet, tmp_path: Path, name: str, locale: dict[str, str]) -> None:
    (tmp_path / name).write_bytes(image_bytes(Image({0: DATA})))
    toml = write_fleet_toml(fleet, tmp_path / "fleet.toml")
    options = ("--disk", "vm", "--tip", name, "--region", "us-east", "--fleet", toml)
    ran = chainwright("import", tmp_path, *options, "--json", env=locale)
    assert ran.json["layers"][0]["file"] == name
    out = tmp_path / f"out-{name}"
    assert chainwright("export", "vm", out, "--fleet", toml, env=locale).code == 0
    assert out.exists()
