"""The kept order of the trees: the same rows as the view, from a few row groups, and never of another analysis."""

from pathlib import Path

import pytest

from tasks.analytics.derive import derive, discard_derived
from tasks.analytics.duck import open_manifest
from tasks.analytics.fleetgen import FleetShape, generate_fleet
from tasks.analytics.placed import FOLDER, keep_placed
from tasks.analytics.queries import find, run


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    folder = tmp_path / "it's a manifest"
    generate_fleet(folder, FleetShape(300, extents_per_layer=5))
    return folder


def answers(manifest: Path, query: str) -> dict[str, list[tuple[object, ...]]]:
    """Of every disk, those whose chains do not end included."""
    with open_manifest(manifest, threads=1) as connection:
        disks = [row[0] for row in connection.execute("SELECT disk_id FROM heads ORDER BY disk_id").fetchall()]
        return {disk: list(run(connection, find(query), {"disk_id": disk}).rows) for disk in disks[::5]}


@pytest.mark.parametrize("query", ["disk_chain", "disk_sharers"])
def test_a_disk_has_the_same_answer_from_the_file(manifest: Path, query: str) -> None:
    derive(manifest, threads=1)
    from_view = answers(manifest, query)
    with open_manifest(manifest, threads=1) as connection:
        keep_placed(connection, manifest)
    assert len(list((manifest / FOLDER).iterdir())) == 1
    assert answers(manifest, query) == from_view
    assert any(from_view.values())


def test_only_an_analysed_manifest_has_trees_to_keep(manifest: Path) -> None:
    with open_manifest(manifest, threads=1) as connection:
        keep_placed(connection, manifest)
    assert not (manifest / FOLDER).exists()


def test_it_goes_with_the_analysis(manifest: Path) -> None:
    derive(manifest, threads=1)
    with open_manifest(manifest, threads=1) as connection:
        keep_placed(connection, manifest)
    discard_derived(manifest)
    assert not (manifest / FOLDER).exists()
