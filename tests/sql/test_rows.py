"""Every query on small fleets, row by row: `<area>/<query>/<case>/input.yaml` and `expect.yaml`.

`expect.yaml` lists all rows in order; a row names the columns that the case is about.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.analytics import sqlfiles
from tasks.analytics.duck import open_manifest
from tasks.analytics.queries import queries, run
from tests.support import yaml_fleet

HERE = Path(__file__).parent
OTHERS = ("plan", "warm")  # areas tested where they are used
CASES = sorted(path.parent for path in HERE.glob("*/*/*/expect.yaml") if path.parts[-4] not in OTHERS)
ODD_FLEETS = ("one_layer", "broken")
ANY = {"disk_id": "disk", "region": "eu-west", "layer_id": "only", "layer_nos": "1"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case.parts[-3:]))
def test_rows(case: Path, tmp_path: Path) -> None:
    area, name = case.parts[-3:-1]
    query = sqlfiles.load(area, name)
    given = yaml_fleet.load(case / "input.yaml")
    yaml_fleet.prepare(given, query, tmp_path)
    parameters = {key: yaml_fleet.plain(value, key == "now") for key, value in (given.get("parameters") or {}).items()}
    with open_manifest(tmp_path, threads=1) as connection:
        rows = run(connection, query, parameters).dicts()
    expected = yaml.safe_load((case / "expect.yaml").read_text(encoding="utf-8")) or []
    assert len(rows) == len(expected), rows
    for row, wanted in zip(rows, expected, strict=True):
        assert {key: _rounded(row[key]) for key in wanted} == {
            key: _rounded(yaml_fleet.plain(v)) for key, v in wanted.items()
        }


def _rounded(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return round(value, 6) if isinstance(value, float) else value


def test_every_query_has_a_case() -> None:
    cased = {case.parts[-2] for case in CASES}
    assert {name for name, query in queries().items() if query.area not in OTHERS} - cased == set()


def _run_all(directory: Path, disks: list[str]) -> dict[str, int]:
    """Every query over one manifest, for each of the disks; the most rows that each gave."""
    found = {}
    with open_manifest(directory, threads=1) as connection:
        for name, query in queries().items():
            required = {p.name for p in query.parameters if p.default is None}
            for disk in disks if "disk_id" in required else disks[:1]:
                given = ANY | {"disk_id": disk}
                rows = run(connection, query, {name: given[name] for name in required}).rows
                found[name] = max(found.get(name, 0), len(rows))
    return found


def test_an_empty_manifest_is_no_error(tmp_path: Path) -> None:
    rows = _run_all(tmp_path, ["disk"])
    assert {name for name, count in rows.items() if count} <= {"fleet_totals"}
    assert rows["fleet_totals"] == 1


@pytest.mark.parametrize("fleet", ODD_FLEETS)
def test_odd_fleets_are_no_error(fleet: str, tmp_path: Path) -> None:
    case = yaml.safe_load((yaml_fleet.FLEETS / f"{fleet}.yaml").read_text(encoding="utf-8"))
    yaml_fleet.prepare(case, queries()["shadowed_data"], tmp_path)
    heads = [head["disk_id"] for head in case["heads"]]
    assert _run_all(tmp_path, heads)["chain_length"] == len(heads)
