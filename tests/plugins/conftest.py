"""The plugin's app without a server: Airflow's own auth manager, made-up fleets as manifests."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.settings import Fleet, parse_fleet


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow's settings, before its first import."""
    home = tmp_path_factory.mktemp("airflow")
    os.environ.setdefault("AIRFLOW_HOME", str(home))
    os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{home / 'airflow.db'}")
    return home


@pytest.fixture(scope="session")
def trial_fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The regions of the made-up fleets; no store behind it."""
    from tasks.analytics.fleetgen.forest import REGIONS

    regions = [
        {
            "name": name,
            "endpoint": "http://127.0.0.1:9",
            "bucket": f"bucket-{name}",
            "egress_usd_per_gb": {other: 0.02 for other in REGIONS if other != name},
        }
        for name in REGIONS
    ]
    work = tmp_path_factory.mktemp("work")
    return parse_fleet({"control_region": REGIONS[0], "work_dir": str(work), "regions": regions}, "test fleet")


@pytest.fixture(scope="session")
def plain_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 layers."""
    return _made(tmp_path_factory.mktemp("plain") / "manifest", hostile=False)


@pytest.fixture(scope="session")
def hostile_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 layers, names that break careless pages."""
    return _made(tmp_path_factory.mktemp("hostile") / "manifest", hostile=True)


def _made(folder: Path, hostile: bool) -> Path:
    from tasks.analytics.fleetgen import FleetShape, generate_fleet

    generate_fleet(folder, FleetShape(500, extents_per_layer=20, hostile_names=hostile))
    return folder


ClientOf = Callable[..., Any]


@pytest.fixture(scope="session")
def client_of(airflow_home: Path) -> ClientOf:
    """A function (holder, role) -> test client; role None is somebody without a session."""
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi.testclient import TestClient

    from plugins.chain_view.app import app
    from plugins.chain_view.state import holder

    create_auth_manager()

    def client(here: Any, role: str | None = "viewer") -> TestClient:
        app.dependency_overrides[holder] = lambda: here
        if role is None:
            app.dependency_overrides.pop(get_user, None)
        else:
            app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username=role, role=role)
        return TestClient(app, raise_server_exceptions=False)

    return client


@pytest.fixture(autouse=True)
def _no_overrides() -> Iterator[None]:
    yield
    import sys

    if "plugins.chain_view.app" in sys.modules:
        sys.modules["plugins.chain_view.app"].app.dependency_overrides.clear()


@pytest.fixture
def plain(plain_manifest: Path, trial_fleet: Fleet) -> Any:
    """A holder of the plain fleet."""
    return holder_of(plain_manifest, trial_fleet)


@pytest.fixture
def hostile(hostile_manifest: Path, trial_fleet: Fleet) -> Any:
    """A holder of the fleet with hostile names."""
    return holder_of(hostile_manifest, trial_fleet)


def holder_of(folder: Path, fleet: Fleet) -> Any:
    from plugins.chain_view.snapshots import SnapshotHolder
    from plugins.chain_view.source import FolderSource

    return SnapshotHolder(FolderSource(folder, fleet))
