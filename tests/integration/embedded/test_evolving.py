"""The chains of the demo and of the tests: real file systems, exact differences."""

import hashlib
import random
import subprocess
from pathlib import Path

import pytest

from tasks.embedded import demo_chains
from tasks.embedded.evolving import fork, read_file
from tasks.errors import Permanent
from tasks.units import MIB
from tests.support.evolving import PAGES, change, make_chain

pytestmark = pytest.mark.qemu


def content(image: Path, to: Path) -> str:
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, to], check=True)
    return hashlib.sha256(to.read_bytes()).hexdigest()


def test_tip_reads_as_the_file_system_that_was_changed(tmp_path: Path) -> None:
    disk = make_chain(tmp_path, "a", 5)
    disk.check()
    assert content(disk.layers[-1], tmp_path / "out.raw") == hashlib.sha256(disk.raw.read_bytes()).hexdigest()
    assert {
        path: hashlib.sha256(read_file(tmp_path / "out.raw", path)).hexdigest() for path in disk.files
    } == disk.files
    assert len(disk.files) == 5
    assert PAGES in disk.files


def test_an_overlay_holds_the_change_only(tmp_path: Path) -> None:
    disk = make_chain(tmp_path, "a", 3)
    assert all(layer.stat().st_size < 3 * MIB for layer in disk.layers[1:])
    sizes = [content(layer, tmp_path / "out.raw") for layer in disk.layers]
    assert len(set(sizes)) == 3


def test_a_trim_gives_zero_clusters_and_keeps_the_content(tmp_path: Path) -> None:
    disk = make_chain(tmp_path, "a", 2)
    layer = change(disk, random.Random(5), trim=True)
    disk.check()
    mapped = subprocess.run(
        ["qemu-img", "map", "--output", "json", "-f", "qcow2", layer], capture_output=True, text=True
    )
    assert '"depth": 0' in mapped.stdout
    assert '"zero": true' in mapped.stdout
    assert content(layer, tmp_path / "out.raw") == hashlib.sha256(disk.raw.read_bytes()).hexdigest()


def test_same_seed_same_files(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    one, two = (make_chain(tmp_path / name, "a", 3, seed=7) for name in ("x", "y"))
    assert one.files == two.files


def test_a_fork_leaves_the_first_disk_alone(tmp_path: Path) -> None:
    disk = make_chain(tmp_path, "a", 3)
    before = [hashlib.sha256(layer.read_bytes()).hexdigest() for layer in disk.layers]
    branch = fork(disk, 2, "b", seed=9)
    branch.write("/data/other", b"other")
    branch.flush()
    branch.check()
    assert branch.layers[:2] == disk.layers[:2]
    assert [hashlib.sha256(layer.read_bytes()).hexdigest() for layer in disk.layers] == before


def test_a_wrong_operation_is_an_error_not_a_wrong_disk(tmp_path: Path) -> None:
    disk = make_chain(tmp_path, "a", 2)
    disk.write("/no/such/folder/file", b"x")
    with pytest.raises(Permanent, match="debugfs"):
        disk.flush()


def test_demo_disks_are_what_the_demo_promises() -> None:
    disks = [disk for disk in demo_chains.DISKS if disk.kind == "disk"]
    assert len(disks) >= 4
    assert {12, 24, 40} <= {disk.layers for disk in disks}
    assert {region for disk in disks for region, _ in disk.lives_in} == {"us-east", "eu-west", "ap-south"}
    for disk in demo_chains.DISKS:
        assert sum(count for _, count in disk.lives_in) == disk.layers
        assert demo_chains.region_of_layer(disk, disk.layers - 1) in {"us-east", "eu-west", "ap-south"}
