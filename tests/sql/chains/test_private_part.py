"""How far down a disk's own part reaches is one answer, whoever asks: the finding and the planner."""

from pathlib import Path

from tasks.analytics.derive import derive
from tasks.analytics.duck import open_manifest
from tasks.analytics.fleetgen import FleetShape, generate_fleet
from tasks.analytics.queries import find, run
from tasks.analytics.sqlfiles import load


def test_the_finding_and_the_planner_agree(tmp_path: Path) -> None:
    generate_fleet(tmp_path / "made-up", FleetShape(1500, extents_per_layer=5.0))
    derive(tmp_path / "made-up")
    with open_manifest(tmp_path / "made-up") as connection:
        planned = {row["disk_id"]: row for row in run(connection, load("plan", "heads")).dicts()}
        found = {row["disk_id"]: row["private_layers"] for row in run(connection, find("chain_length")).dicts()}
        alive = {number for (number,) in connection.execute("SELECT layer_no FROM live").fetchall()}
        links = connection.execute("SELECT layer_no, parent_no FROM layers").fetchall()
    dead_branches = [layer for layer, parent in links if layer not in alive and parent in alive]
    sound = {disk: row["private_layers"] for disk, row in planned.items() if row["status"] == "ok"}
    assert dead_branches
    assert len(sound) > 100
    assert {disk: found[disk] for disk in sound} == sound
