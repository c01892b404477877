"""Files, headers, parameters."""

import datetime
import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
import yaml

from tasks.analytics import queries, sqlfiles
from tasks.analytics.duck import open_manifest
from tasks.analytics.queries import bind, find, run, run_arrow, run_sorted
from tasks.errors import ConfigError, NotFound, Permanent
from tests.support import yaml_fleet


@pytest.fixture
def small(tmp_path: Path) -> Path:
    yaml_fleet.write(yaml.safe_load((yaml_fleet.FLEETS / "small.yaml").read_text(encoding="utf-8")), tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", sorted(queries.queries()))
def test_headers_are_complete(name: str) -> None:
    query = find(name)
    assert query.title
    assert query.grain
    assert query.key
    assert query.inputs
    used = {p.name for p in query.parameters if f"${p.name}" in query.sql}
    assert used == {p.name for p in query.parameters}
    assert len(duckdb.extract_statements(query.sql)) == 1


def test_unknown_query_names_those_there_are() -> None:
    with pytest.raises(NotFound, match=r"unknown query 'nope'; there are: .*chain_length"):
        find("nope")


def test_results_are_typed(small: Path) -> None:
    with open_manifest(small) as connection:
        result = run(connection, find("growth_forecast"), {"now": "2026-01-01"})
    types = {column.name: column.type for column in result.columns}
    assert types["disk_id"] == "VARCHAR"
    assert types["layers"] == "BIGINT"
    assert types["days_left"] == "DOUBLE"
    assert types["reaches_limit_at"] == "TIMESTAMPTZ"
    assert result.dicts()[0]["reaches_limit_at"] == datetime.datetime(2026, 1, 6, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("INTEGER", "7", 7),
        ("DOUBLE", "1.5", 1.5),
        ("BOOLEAN", "yes", True),
        ("BOOLEAN", "0", False),
        ("VARCHAR", " x", "x"),
        ("VARCHAR[]", "a,b", ["a", "b"]),
        ("VARCHAR[]", "", []),
        ("JSON", '{"a":1}', '{"a": 1}'),
        ("TIMESTAMPTZ", "2026-01-01", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)),
        ("TIMESTAMPTZ", "2026-01-01T02:00:00+02:00", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)),
    ],
)
def test_texts_become_the_declared_type(kind: str, text: str, value: object) -> None:
    query = sqlfiles.parse(f"-- q: t\n-- parameter x {kind}: it\nSELECT $x", "q", "area")
    assert bind(query, {"x": text}, {}) == {"x": value}


@pytest.mark.parametrize(
    ("kind", "text"),
    [("INTEGER", "1.5"), ("DOUBLE", "x"), ("BOOLEAN", "maybe"), ("JSON", "{"), ("TIMESTAMPTZ", "soon")],
)
def test_a_wrong_value_is_named(kind: str, text: str) -> None:
    query = sqlfiles.parse(f"-- q: t\n-- parameter x {kind}: it\nSELECT $x", "q", "area")
    with pytest.raises(ConfigError, match=f"parameter x: .* is not of type {kind}"):
        bind(query, {"x": text}, {})


def test_defaults_come_from_the_caller_then_from_the_header() -> None:
    query = find("chain_length")
    assert bind(query, {}, {})["max_chain_length"] == 8
    assert bind(query, {}, {"max_chain_length": 5, "unused": 1})["max_chain_length"] == 5
    assert bind(query, {"max_chain_length": 3}, {"max_chain_length": 5})["max_chain_length"] == 3


def test_required_and_unknown_parameters_are_named() -> None:
    with pytest.raises(ConfigError, match="parameter disk_id is required: the head"):
        bind(find("disk_chain"), {}, {})
    with pytest.raises(NotFound, match="has no parameter 'nope'; it has: disk_id"):
        bind(find("disk_chain"), {"nope": 1}, {})


def test_values_are_bound_not_pasted(small: Path) -> None:
    with open_manifest(small) as connection:
        assert run(connection, find("disk_chain"), {"disk_id": "x' OR '1'='1"}).rows == ()


def test_sorted_either_way_and_limited(small: Path) -> None:
    with open_manifest(small) as connection:
        most = run_sorted(connection, find("layer_heat"), sort="requests_per_day", limit=1)
        least = run_sorted(connection, find("layer_heat"), sort="+requests_per_day", limit=1)
    assert (most["layer_id"].to_pylist(), least["layer_id"].to_pylist()) == (["base"], ["mid"])


def test_parquet_holds_the_rows(small: Path, tmp_path: Path) -> None:
    with open_manifest(small) as connection:
        table = run_arrow(connection, find("chain_length"))
    queries.write_parquet(table, tmp_path / "rows.parquet")
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == table.to_pylist()
    assert not list(tmp_path.glob(".*.part"))


def test_an_error_of_duckdb_is_one_line(small: Path) -> None:
    broken = sqlfiles.parse("-- q: t\nSELECT nope FROM layers", "q", "area")
    with open_manifest(small) as connection, pytest.raises(Permanent, match=r"query q: .*nope") as caught:
        run(connection, broken)
    assert "\n" not in str(caught.value)


def test_fleet_defaults_are_prices_and_limits(tmp_path: Path) -> None:
    from tasks.settings import parse_fleet

    region = {"name": "us-east", "endpoint": "", "bucket": "abc", "egress_usd_per_gb": {"eu-west": 0.02}}
    other = {"name": "eu-west", "endpoint": "", "bucket": "abd"}
    fleet = parse_fleet({"control_region": "us-east", "regions": [region, other]}, "test")
    defaults = queries.fleet_defaults(fleet)
    assert json.loads(defaults["prices"]) == {"us-east": {"eu-west": 0.02}, "eu-west": {}}
    assert defaults["max_chain_length"] == fleet.policy.max_chain_length
