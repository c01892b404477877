"""`chainwright query`, `chainwright sql` and `chainwright dev generate-fleet` on manifest folders."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.support import yaml_fleet
from tests.support.cli import chainwright


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manifest")
    yaml_fleet.write(yaml.safe_load((yaml_fleet.FLEETS / "small.yaml").read_text(encoding="utf-8")), folder)
    return folder


def test_lists_the_queries() -> None:
    ran = chainwright("query")
    assert ran.code == 0
    assert "chain_length" in ran.out
    listed = chainwright("query", "--json").json["queries"]
    assert {"name": "growth_forecast", "area": "chains"}.items() <= {
        key: value for query in listed if query["name"] == "growth_forecast" for key, value in query.items()
    }.items()


def test_a_table_for_people(small: Path) -> None:
    ran = chainwright("query", "chain_length", "--manifest", small, "--limit", "1")
    assert ran.code == 0
    assert "disk-a" in ran.out
    assert "7.0 MiB" in ran.out
    assert "disk-b" not in ran.out
    assert "1 of 2 rows" not in ran.err  # the limit was asked for


def test_a_pipe_gets_whole_lines(small: Path) -> None:
    lines = chainwright("query", "chain_length", "--manifest", small).out.splitlines()
    assert any("disk id" in line and "root layer id" in line for line in lines)
    assert any("disk-a" in line and "7.0 MiB" in line for line in lines)


def test_a_narrow_terminal_gets_records(small: Path) -> None:
    program = Path(sys.executable).with_name("chainwright")
    script = f"stty cols 80; {program} query chain_length --manifest {small} --limit 1"
    done = subprocess.run(["script", "-qec", script, "/dev/null"], capture_output=True, text=True, check=True)
    assert [line.split() for line in done.stdout.splitlines() if "disk id" in line] == [["disk", "id", "disk-a"]]


def test_json_csv_and_parquet_hold_the_same_rows(small: Path, tmp_path: Path) -> None:
    rows = chainwright("query", "shadowed_data", "--manifest", small, "--json").json["rows"]
    assert [row["layer_id"] for row in rows] == ["base", "lower-a", "orphan", "mid", "tip-a", "tip-b"]
    read = list(csv.DictReader(io.StringIO(chainwright("query", "shadowed_data", "--manifest", small, "--csv").out)))
    assert [row["shadowed_bytes"] for row in read] == [str(row["shadowed_bytes"]) for row in rows]
    ran = chainwright("query", "shadowed_data", "--manifest", small, "--parquet", tmp_path / "out.parquet")
    assert "6 rows" in ran.err
    assert pq.read_table(tmp_path / "out.parquet")["layer_id"].to_pylist() == [row["layer_id"] for row in rows]


def test_parameters_sort_and_limit(small: Path) -> None:
    given = ("--param", "max_chain_length=3", "--sort", "+layers", "--limit", "1", "--json")
    rows = chainwright("query", "chain_length", "--manifest", small, *given).json["rows"]
    assert [(row["disk_id"], row["too_long"]) for row in rows] == [("disk-b", False)]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("nope",), 1, "unknown query 'nope'"),
        (("disk_chain",), 2, "parameter disk_id is required"),
        (("chain_length", "--param", "max_chain_length=x"), 2, "is not of type INTEGER"),
        (("chain_length", "--param", "nope=1"), 1, "has no parameter 'nope'"),
        (("chain_length", "--param", "nope"), 2, "expected KEY=VALUE"),
        (("chain_length", "--sort", "nope"), 1, "has no column 'nope'"),
        (("chain_length", "--json", "--csv"), 2, "choose one of"),
        (("chain_length", "--parquet", "/nowhere/at/all.parquet"), 1, "/nowhere/at"),
    ],
)
def test_wrong_use_is_one_clear_message(small: Path, arguments: tuple[str, ...], code: int, text: str) -> None:
    ran = chainwright("query", *arguments, "--manifest", small)
    assert ran.code == code
    assert text in " ".join(ran.err.replace("│", " ").split())
    assert "Traceback" not in ran.err


def test_no_manifest_folder() -> None:
    assert "no such manifest folder" in chainwright("query", "shadowed_data", "--manifest", "/nowhere").line


def test_shows_its_sql() -> None:
    assert chainwright("query", "orphans", "--sql").out.startswith("-- orphans:")


def test_sql_runs_a_command(small: Path) -> None:
    text = "SELECT count(*) AS n FROM extents; SELECT disk_id FROM chain_length() LIMIT 1"
    ran = chainwright("sql", "--manifest", small, "--csv", "-c", text)
    assert ran.out.splitlines() == ["n", "8", "disk_id", "disk-a"]
    assert chainwright("sql", "--manifest", small, "--json", "-c", "SELECT 1 AS a").json == [{"a": 1}]


def test_sql_writes_nothing(small: Path, tmp_path: Path) -> None:
    ran = chainwright("sql", "--manifest", small, "-c", f"COPY layers TO '{tmp_path}/x.csv'")
    assert ran.line.startswith("chainwright: statement_not_allowed: COPY")
    assert not (tmp_path / "x.csv").exists()
    ran = chainwright("sql", "--manifest", small, "-c", "SELECT * FROM read_text('/etc/passwd')")
    assert "disabled by configuration" in ran.line


def test_generates_a_fleet_that_can_be_queried(tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    made = chainwright("dev", "generate-fleet", folder, "--size", "120", "--hostile-names", "--json").json
    assert made["rows"]["layers"] >= 120
    ran = chainwright("query", "broken_chains", "--manifest", folder)
    assert "<img src=x" in ran.out  # as text
    assert "\u202e" not in ran.out
    assert "is not empty" in chainwright("dev", "generate-fleet", folder).line
    assert chainwright("dev", "generate-fleet", tmp_path / "x", "--size", "huge").code == 2
