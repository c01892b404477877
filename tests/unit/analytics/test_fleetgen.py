"""Made-up fleets: the same from the same seed, sound, with the troubles that real ones have."""

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tasks.analytics.fleetgen import FleetShape, generate_fleet
from tasks.errors import ConfigError
from tasks.inventory.schema import DATASETS


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    generate_fleet(folder, FleetShape(1500, seed=11))
    return folder


def test_the_same_seed_makes_the_same_rows(fleet: Path, tmp_path: Path) -> None:
    generate_fleet(tmp_path / "same", FleetShape(1500, seed=11))
    generate_fleet(tmp_path / "other", FleetShape(1500, seed=12))
    for dataset in DATASETS:
        assert pq.read_table(tmp_path / "same" / dataset).equals(pq.read_table(fleet / dataset))
    assert not pq.read_table(tmp_path / "other" / "layers").equals(pq.read_table(fleet / "layers"))


def test_extents_are_sorted_disjoint_and_inside_their_layers(fleet: Path) -> None:
    extents, layers = pq.read_table(fleet / "extents"), pq.read_table(fleet / "layers")
    size = dict(zip(layers["layer_no"].to_pylist(), layers["virtual_size"].to_pylist(), strict=True))
    before = (-1, 0)
    for number, start, length in zip(*(extents[n].to_pylist() for n in ("layer_no", "start", "length")), strict=True):
        assert length > 0
        assert start + length <= size[number]
        assert (number, start) >= before
        before = (number, start + length)


def test_there_is_some_of_every_trouble(fleet: Path) -> None:
    layers, heads = pq.read_table(fleet / "layers"), pq.read_table(fleet / "heads")
    assert set(layers["status"].to_pylist()) == {"ok", "refused", "missing"}
    assert {"ok", "dangling", "refused"} == set(heads["status"].to_pylist())
    assert pc.any(layers["extended_l2"]).as_py() or pc.any(pc.not_equal(layers["cluster_bits"], 16)).as_py()
    assert len(set(layers["region"].to_pylist())) == 6


def test_numbered_by_time(tmp_path: Path) -> None:
    generate_fleet(tmp_path, FleetShape(300, numbered_by_time=True))
    layers = pq.read_table(tmp_path / "layers")
    written = layers.filter(pc.not_equal(layers["status"], "missing"))["last_modified"].to_pylist()
    assert written == sorted(written)
    numbers = pq.read_table(tmp_path / "extents")["layer_no"].to_pylist()
    assert numbers == sorted(numbers)


def test_small_or_occupied_folders_are_refused(fleet: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 50 layers"):
        generate_fleet(tmp_path, FleetShape(10))
    with pytest.raises(ConfigError, match="is not empty"):
        generate_fleet(fleet, FleetShape(100))
