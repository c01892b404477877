"""What the plugin registers, what a task instance links to, and what is noted on it."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import Refused
from tests.support.airflow_env import ROOT

pytestmark = pytest.mark.airflow

STATIC = ROOT / "plugins/chain_view/static"


def test_importing_the_plugin_stays_light(airflow_home: Path) -> None:
    """Every Airflow process imports it, also those that fork: no DuckDB, no Arrow."""
    code = (
        "import sys; sys.path.insert(0, 'plugins'); import chain_view_plugin;"
        "sys.exit(bool({'duckdb', 'pyarrow', 'numba', 'chain_view.app'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_all_that_is_registered_is_there(airflow_home: Path) -> None:
    from plugins.chain_view_plugin import ChainViewPlugin

    (app,) = ChainViewPlugin.react_apps
    for key in ("bundle_url", "icon", "icon_dark_mode"):
        name = app[key].removeprefix("chainview/static/").partition("?")[0]
        assert (STATIC / name).is_file()


def test_the_committed_pages_are_built_from_the_committed_source() -> None:
    """`npm ci && npm run build` in plugins/chain_view/ui writes them, and the record of what they were built from."""
    record = json.loads((STATIC / "build.json").read_text())
    folder = ROOT / "plugins/chain_view/ui"
    rest = {"build.mjs", "package.json", "package-lock.json", "tsconfig.json"}
    names = rest | {str(file.relative_to(folder)) for file in folder.glob("src/**/*.*")}
    assert record["sources"] == {name: _sum(folder / name) for name in names}
    assert record["built"] == {file.name: _sum(file) for file in STATIC.iterdir() if ".js" in file.suffixes}


def _sum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_nothing_is_loaded_from_elsewhere() -> None:
    for file in STATIC.glob("*.js"):
        text = file.read_text()
        for mark in ("cdn.", "unpkg", "jsdelivr", "googleapis"):
            assert mark not in text, (file.name, mark)


@pytest.mark.parametrize(
    ("values", "conf", "facts"),
    [
        ({}, None, {}),
        ({}, {"disk": "web-1"}, {"disk_id": "web-1"}),
        (
            {"return_value": {"disk_id": "a", "action_id": "merge-1"}},
            {"disk": "b"},
            {"disk_id": "a", "action_id": "merge-1"},
        ),
        ({"return_value": [1, 2], "disk_id": "c"}, None, {"disk_id": "c"}),
        ({"return_value": {"disk_id": 7, "action_id": None}}, {"disk": ["x"]}, {}),
    ],
)
def test_what_a_task_instance_names(values: Any, conf: Any, facts: dict[str, str], airflow_home: Path) -> None:
    from plugins.chain_view.links import facts_of

    assert facts_of(values, conf) == facts


def test_only_our_own_errors_and_failed_outcomes_are_noted(airflow_home: Path) -> None:
    from plugins.chain_view.notes import MAX_NOTE, note_of_error, note_of_result

    assert note_of_error(Refused("short_parent", "disk web-1:\nlayer x")) == "short_parent: disk web-1: layer x"
    assert len(note_of_error(Refused("x", "y" * 5000))) == MAX_NOTE
    assert note_of_error(ValueError("a secret")) == ""
    assert note_of_error(None) == ""
    assert note_of_result({"outcome": "lost", "reason": "head_moved", "disk_id": "web-1"}) == "web-1: lost: head_moved"
    assert note_of_result({"outcome": "published", "disk_id": "web-1"}) == ""
    assert note_of_result(None) == ""


def test_checks_that_do_not_hold_are_noted(airflow_home: Path) -> None:
    from plugins.chain_view.notes import note_of_result

    failure = {
        "table": "heads",
        "rule": "every head can be read",
        "severity": "warn",
        "failures": 2,
        "example": "web-1",
    }
    assert note_of_result({"snapshot_id": "s", "checks": [failure]}) == "heads: every head can be read (2)"
    assert note_of_result({"snapshot_id": "s", "checks": []}) == ""
