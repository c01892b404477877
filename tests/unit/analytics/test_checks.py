"""Data checks find what they are for, and nothing in sound fleets."""

from pathlib import Path

import pytest
import yaml

from tasks.analytics.checks import raise_first_stop, run_checks
from tasks.analytics.derive import derive
from tasks.analytics.duck import open_manifest
from tasks.analytics.fleetgen import FleetShape, generate_fleet
from tasks.errors import Refused
from tests.support import yaml_fleet


def broken(tmp_path: Path, **changes: list[dict]) -> list[str]:
    """The rules that fail for the small fleet with rows changed: {dataset: [changes of row 0, of row 1, …]}."""
    case = yaml.safe_load((yaml_fleet.FLEETS / "small.yaml").read_text(encoding="utf-8"))
    for dataset, rows in changes.items():
        for number, change in enumerate(rows):
            case[dataset][number] |= change
    yaml_fleet.write(case, tmp_path)
    with open_manifest(tmp_path) as connection:
        return [f"{failure.table}: {failure.rule}" for failure in run_checks(connection, skip=("shadow_layers",))]


def test_sound_fleets_pass(tmp_path: Path) -> None:
    assert broken(tmp_path / "small") == []
    generate_fleet(tmp_path / "made-up", FleetShape(300))
    derive(tmp_path / "made-up")
    with open_manifest(tmp_path / "made-up") as connection:
        assert [failure.rule for failure in run_checks(connection)] == ["every head can be read"]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"layers": [{"layer_no": 2}]}, "layers: layer_no is unique"),
        ({"layers": [{"status": "fine"}]}, "layers: status is ok, refused or missing"),
        ({"layers": [{"parent_no": 77}]}, "layers: parent_no names a layer"),
        ({"layers": [{}, {"parent_no": 3}]}, "layers: parent_no is the layer that backing_layer_id names"),
        ({"layers": [{"virtual_size": -1}]}, "layers: layers that are ok have sizes and counts"),
        ({"layers": [{"extents": 9}]}, "extents: as many rows as layers says"),
        ({"layers": [{"size_bytes": 1}]}, "layers: an object is not smaller than what it stores"),
        ({"extents": [{"length": -4096}]}, "extents: start, length and kind are possible"),
        ({"extents": [{"host_offset": -1}]}, "extents: stored kinds have a place in the object"),
        ({"heads": [{"disk_id": "disk-b"}]}, "heads: disk_id is unique"),
        ({"heads": [{"tip_layer_id": "never-seen"}]}, "heads: a head that is ok has a tip"),
        ({"reads": [{"requests": -1}]}, "reads: counts are not negative"),
        ({"reads": [{"cache_status": "perhaps"}]}, "reads: cache_status is hit, miss or none"),
        ({"reads": [{"requests": 11}]}, "reads: every request has a latency"),
    ],
)
def test_each_rule_finds_its_fault(tmp_path: Path, changes: dict, rule: str) -> None:
    assert rule in broken(tmp_path, **changes)


def test_a_wrong_analysis_is_found(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    case = yaml.safe_load((yaml_fleet.FLEETS / "small.yaml").read_text(encoding="utf-8"))
    yaml_fleet.write(case, tmp_path)
    derive(tmp_path)
    file = tmp_path / "shadow_layers" / "part-0000.parquet"
    table = pq.read_table(file)
    place = table.schema.get_field_index("visible_data_bytes")
    pq.write_table(table.set_column(place, "visible_data_bytes", pa.array([10 << 30] * table.num_rows)), file)
    with open_manifest(tmp_path) as connection:
        failures = run_checks(connection)
    assert {failure.table for failure in failures} == {"shadow_layers"}
    with pytest.raises(Refused, match="check_failed: manifest: shadow_layers: a head sees all of its tip: 2 rows"):
        raise_first_stop(failures)
