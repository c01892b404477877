"""DAG files, parsed once for all tests, with a fleet.toml of three regions."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.embedded.description import Ports, ensure_described
from tasks.embedded.state import StateDir
from tasks.settings import ENV_FLEET
from tests.support.airflow_env import ROOT, prepare

DAGS = ROOT / "dags"


@pytest.fixture(scope="session")
def fleet_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The fleet that the DAG files see; nothing runs behind it."""
    state = StateDir(tmp_path_factory.mktemp("dag-fleet"))
    ensure_described(state, Ports())
    before = os.environ.get(ENV_FLEET)
    os.environ[ENV_FLEET] = str(state.fleet_file)
    yield state.fleet_file
    os.environ.pop(ENV_FLEET) if before is None else os.environ.update({ENV_FLEET: before})


@pytest.fixture(scope="session")
def dags(fleet_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every DAG by id; fails if a file has an error."""
    prepare(tmp_path_factory.mktemp("airflow"))
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(DAGS)
    assert bag.import_errors == {}
    return dict(bag.dags)
