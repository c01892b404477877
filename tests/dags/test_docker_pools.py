"""docker/init.sh makes the regions' pools: before the first start and after every upgrade."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.airflow_env import ROOT

pytestmark = pytest.mark.airflow

_CHANGE = """
from airflow.models.pool import Pool
from airflow.utils.session import create_session
with create_session() as session:
    Pool.create_or_update_pool("region-us-east", 3, "tuned", include_deferred=False, session=session)
"""
_SHOW = """
from airflow.models.pool import Pool
from airflow.utils.session import create_session
with create_session() as session:
    print(sorted((p.pool, p.slots) for p in session.query(Pool) if p.pool.startswith("region-")))
"""


@pytest.fixture
def environment(fleet_file: Path, tmp_path: Path) -> dict[str, str]:
    """An Airflow of its own; its database's password is one that Airflow warns of on standard output."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "CHAINWRIGHT_FLEET": str(fleet_file),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": "abc",
        "PYTHONPATH": str(ROOT),
    }


def run(environment: dict[str, str], *argv: str) -> str:
    done = subprocess.run(
        [sys.executable, *argv], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split("\n")[-1]


def test_missing_pools_are_made_and_an_operators_slots_are_kept(environment: dict[str, str]) -> None:
    run(environment, "-m", "airflow", "db", "migrate")
    run(environment, "-c", _CHANGE)
    run(environment, "-m", "docker.pools")
    run(environment, "-m", "docker.pools")
    assert run(environment, "-c", _SHOW) == str([("region-ap-south", 8), ("region-eu-west", 8), ("region-us-east", 3)])
