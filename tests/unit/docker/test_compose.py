"""What the compose file's containers write is where it outlives them, and does not grow for ever."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCKER = Path(__file__).parents[3] / "docker"
ROTATE = str(DOCKER / "rotate.sh")
REGIONS = ("us-east", "eu-west", "ap-south")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8")))


def mounts(compose: dict[str, Any], service: str) -> dict[str, str]:
    """Path in the container to volume."""
    return {text.split(":")[1]: text.split(":")[0] for text in compose["services"][service]["volumes"]}


def test_tasks_logs_outlive_the_api_server(compose: dict[str, Any]) -> None:
    """Edge workers push them to it: in the container alone, an upgrade would end them."""
    assert mounts(compose, "api-server")["/opt/airflow/logs"] == "task-logs"


def test_each_cache_keeps_its_slices(compose: dict[str, Any]) -> None:
    """Warming's ledger outlives the containers, so what it fetched must do so too."""
    found = [mounts(compose, f"cache-{region}")["/var/cache/chainwright"] for region in REGIONS]
    assert found == [f"cache-{region}" for region in REGIONS]


def test_every_service_finds_the_fleet_and_every_volume_is_declared(compose: dict[str, Any]) -> None:
    for name in compose["services"]:
        if name not in {"postgres", "store"}:
            assert "/etc/chainwright/fleet.toml" in mounts(compose, name), name
        volumes = {volume for volume in mounts(compose, name).values() if not volume.startswith(".")}
        assert volumes <= set(compose["volumes"]), name


def test_workers_have_no_key_of_the_database(compose: dict[str, Any]) -> None:
    """They open images that tenants wrote."""
    for region in REGIONS:
        environment = compose["services"][f"worker-{region}"]["environment"]
        assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("sqlite:")
        assert environment["AIRFLOW__CORE__FERNET_KEY"] == environment["AIRFLOW__API__SECRET_KEY"] == ""


def rotate(log: Path, limit: int) -> None:
    subprocess.run([ROTATE, str(log)], env={**os.environ, "LOG_BYTES": str(limit)}, check=True)


def test_a_large_log_is_set_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    log = tmp_path / "us-east.access.log"
    rotate(log, 3)  # there is none yet
    for number in range(7):
        log.write_text(f"{number:04}")
        rotate(log, 3)
    log.write_text("new")
    rotate(log, 3)
    assert {path.name.removeprefix(log.name): path.read_text() for path in tmp_path.iterdir()} == {
        "": "new", ".1": "0006", ".2": "0005", ".3": "0004", ".4": "0003",
    }  # fmt: skip
