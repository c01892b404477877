"""What is asked of one disk has the same answer beside the layers that matter to it as in the whole fleet."""

from pathlib import Path

import pytest

from tasks.analytics.derive import derive
from tasks.analytics.duck import open_manifest
from tasks.analytics.fleetgen import FleetShape, generate_fleet
from tasks.analytics.narrow import narrow
from tasks.analytics.queries import find, run, run_arrow
from tasks.analytics.sqlfiles import load


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet") / "manifest"
    generate_fleet(folder, FleetShape(500, extents_per_layer=10))
    derive(folder)
    return folder


def planner_rows(manifest: Path, disk: str, narrowed: bool) -> tuple[list[object], list[object], bool]:
    with open_manifest(manifest) as connection:
        done = narrow(connection, [disk]) if narrowed else False
        heads = [row for row in run_arrow(connection, load("plan", "heads")).to_pylist() if row["disk_id"] == disk]
        layers = run_arrow(connection, load("plan", "layers"), {"disk_ids": [disk]}).to_pylist()
        return heads, layers, done


def test_the_planner_sees_the_same_disk(manifest: Path) -> None:
    with open_manifest(manifest) as connection:
        disks = run(connection, find("chain_length")).dicts()
    narrowed = 0
    for row in disks[::7]:
        heads, layers, done = planner_rows(manifest, row["disk_id"], narrowed=True)
        assert (heads, layers) == planner_rows(manifest, row["disk_id"], narrowed=False)[:2], row["disk_id"]
        narrowed += done
    assert narrowed > len(disks[::7]) // 2


def test_it_is_not_the_whole_fleet_that_is_left(manifest: Path) -> None:
    with open_manifest(manifest) as connection:
        disk = run(connection, find("chain_length")).dicts()[0]["disk_id"]
        everything = connection.execute("SELECT count(*) FROM layers").fetchall()[0][0]
        assert narrow(connection, [disk])
        assert connection.execute("SELECT count(*) FROM layers").fetchall()[0][0] < everything


def test_an_unknown_disk_or_a_cycle_leaves_the_whole_fleet(manifest: Path) -> None:
    with open_manifest(manifest) as connection:
        broken = [row["disk_id"] for row in run(connection, find("chain_length")).dicts() if row["status"] == "cycle"]
        assert broken
        for disk in ["no-such-disk", broken[0]]:
            assert not narrow(connection, [disk])
        assert connection.execute("SELECT count(*) FROM layers").fetchall()[0][0] > 400
