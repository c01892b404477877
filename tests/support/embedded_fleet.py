"""A whole embedded fleet for end-to-end tests, started and stopped as a user does."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tasks.embedded import airflow
from tasks.embedded.airflow_api import AirflowApi
from tasks.embedded.description import embedded_of
from tasks.embedded.ports import is_free
from tasks.embedded.state import StateDir
from tasks.settings import Fleet, load_fleet
from tests.support.cli import Ran, chainwright
from tests.support.ports import free_block

UP_SECONDS = 280


@dataclass(frozen=True)
class LiveFleet:
    """One state directory, with its ports."""

    state: StateDir
    s3_port: int
    cache_port: int
    airflow_port: int

    def up(self, **env: str) -> Ran:
        """`chainwright up`; the ports are given at the first start only."""
        ports = ["--s3-port", str(self.s3_port), "--cache-port", str(self.cache_port)]
        ports += ["--airflow-port", str(self.airflow_port)]
        first = not self.state.fleet_file.exists()
        return chainwright("up", "--state-dir", self.state.root, *(ports if first else []), env=env, timeout=UP_SECONDS)

    def down(self) -> Ran:
        """`chainwright down`."""
        return chainwright("down", "--state-dir", self.state.root)

    @property
    def fleet(self) -> Fleet:
        """As written by `up`."""
        return load_fleet(self.state.fleet_file)

    @property
    def api(self) -> AirflowApi:
        """Signed in as admin."""
        return airflow.api_of(self.state, embedded_of(self.fleet, self.state).airflow_port)

    def processes(self) -> list[psutil.Process]:
        """Everything whose command line or environment names the state directory, or that listens on its ports."""
        ports = {self.s3_port + offset for offset in range(9)} | {self.airflow_port, self.airflow_port + 1}
        ports |= {self.cache_port + offset for offset in range(3)}
        listeners = {one.pid for one in psutil.net_connections("tcp") if one.laddr and one.laddr.port in ports}
        return [one for one in psutil.process_iter() if one.pid in listeners or self._names_us(one)]

    def _names_us(self, process: psutil.Process) -> bool:
        try:
            text = " ".join(process.cmdline()) + " ".join(process.environ().values())
        except psutil.Error:
            return False
        return process.pid != psutil.Process().pid and str(self.state.root) in text


def new_fleet(folder: Path) -> LiveFleet:
    """Free ports, nothing started."""
    return LiveFleet(StateDir(folder), free_block(), _free_run(3), _free_run(2))


def _free_run(length: int) -> int:
    for _ in range(500):
        first = random.randrange(22_100, 32_000)
        if all(is_free(first + offset) for offset in range(length)):
            return first
    raise RuntimeError(f"no {length} free ports in a row")


def task_log(live: LiveFleet, dag_id: str, run_id: str, task_id: str, map_index: int = -1, attempt: int = 1) -> str:
    """What the task wrote."""
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}?map_index={map_index}"
    content: Any = live.api.call("GET", path)["content"]
    return "\n".join(_line(part) for part in content)


def _line(part: Any) -> str:
    if not isinstance(part, dict):
        return str(part)
    errors = [str(one.get("exc_value")) for one in part.get("error_detail") or []]
    return " ".join([str(part.get("event")), *errors])
