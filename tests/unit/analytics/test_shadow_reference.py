"""The kernel against the same analysis in SQL."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from tasks.analytics import sqlfiles
from tasks.analytics.derive import derive
from tasks.analytics.duck import open_manifest
from tasks.analytics.fleetgen import FleetShape, generate_fleet
from tasks.analytics.queries import run
from tests.support.forests import Forest, forests, write_manifest


def compare(directory: Path, table: str, key: str) -> int:
    query = sqlfiles.load("reference", table)
    with open_manifest(directory) as connection:
        expected = run(connection, query)
        names = ", ".join(column.name for column in expected.columns)
        found = connection.sql(f"SELECT {names} FROM {table} ORDER BY {key}").to_arrow_table().to_pylist()
    if table == "steals":  # the reference knows no stored bytes; a layer that takes zero bytes of each kind has no row
        found = [row for row in found if row["data_bytes"] + row["zero_bytes"] + row["compressed_bytes"]]
    assert found == expected.dicts()
    return len(found)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(forests(max_layers=25))
def test_random_forests(forest: Forest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(forest, Path(folder))
        derive(Path(folder), threads=1)
        compare(Path(folder), "shadow_layers", "layer_no")
        compare(Path(folder), "steals", "upper_no, lower_no")


def test_a_realistic_fleet(tmp_path: Path) -> None:
    generate_fleet(tmp_path, FleetShape(400, seed=3, extents_per_layer=25))
    derive(tmp_path)
    assert compare(tmp_path, "shadow_layers", "layer_no") > 300
    assert compare(tmp_path, "steals", "upper_no, lower_no") > 200
