"""The embedded fleet as a whole: up, down, status.

Order of `up`: describe, end what killed parts left, check every port, object store, caches, Airflow, pools. Each step
is a no-op where it is done: a second `up` mends a fleet of which something died. `down` goes the other way and ends
what `up` started, no more.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.embedded import airflow, nginx, ports, processes, s3
from tasks.embedded.daemon import Daemon
from tasks.embedded.description import Ports, embedded_of, ensure_described
from tasks.embedded.state import StateDir
from tasks.errors import ChainwrightError, ConfigError
from tasks.settings import Embedded, Fleet, Region, load_fleet

POOL_SLOTS = 2  # actions at once in one region: this machine's cores
ORPHANS_SECONDS = 6.0  # for what a killed part left running, before it is killed too
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One process of the fleet. `url` is empty where nobody connects to it."""

    part: str
    pid: int | None
    healthy: bool
    url: str
    log: Path


def up(state: StateDir, wanted: Ports | None, say: Say) -> Fleet:
    """Start what does not run; returns when all of it answers.

    ConfigError, before anything is started, if a port is taken; Permanent if a part does not come up.
    """
    fleet = ensure_described(state, wanted)
    with _only_one(state):
        embedded = embedded_of(fleet, state)
        processes.end(processes.orphans(_daemons(state, fleet)), ORPHANS_SECONDS)
        ports.check(_ports_to_bind(state, fleet, embedded))
        say("object store")
        s3.start(s3_server(state, fleet), [region.bucket for region in fleet.regions])
        for region in fleet.regions:
            say(f"regional cache {region.name}")
            nginx.start(state, fleet, region, embedded)
        say("Airflow (the first start makes its database)")
        airflow.start(state, embedded.airflow_port)
        api = airflow.wait_until_up(state, embedded.airflow_port)
        for region in fleet.regions:
            api.put_pool(pool_of(region), POOL_SLOTS, f"Actions at once in {region.name}")
    return fleet


def down(state: StateDir, wait_seconds: float = 6.0) -> int:
    """End every process that `up` started; the number of processes. Data stays."""
    if not state.root.is_dir():
        return 0
    with _only_one(state):
        daemons = [*airflow.daemons(state).values(), *nginx.daemons(state)]
        ended = processes.end(processes.family(daemons, state.root), wait_seconds)
        for daemon in daemons:
            daemon.pid_file.unlink(missing_ok=True)
        if state.fleet_file.exists():
            ended += s3.stop(s3_server(state, load_fleet(state.fleet_file)))
    return ended


def status(state: StateDir) -> list[PartStatus]:
    """Every part; ConfigError if there is no fleet in the directory."""
    fleet = load_fleet(state.fleet_file)
    embedded = embedded_of(fleet, state)
    server = s3_server(state, fleet)
    parts = [_status("object store", server.daemon, server.endpoint, s3.healthy(server))]
    for region in fleet.regions:
        daemon = nginx.daemon(state, region.name)
        parts.append(_status(f"cache {region.name}", daemon, region.cache_url, nginx.healthy(region)))
    sick = _sick_components(state, embedded)
    for name, part in airflow.daemons(state).items():
        url = embedded.airflow_url if name == "api-server" else ""
        parts.append(_status(f"airflow {name}", part, url, name not in sick))
    return parts


def s3_server(state: StateDir, fleet: Fleet) -> s3.S3Server:
    """The embedded object store of this fleet, with its keys."""
    region = fleet.regions[0]
    key, secret = (os.environ.get(name, "") for name in (region.access_key_env, region.secret_key_env))
    if not key or not secret:
        raise ConfigError(f"{state.credentials}: no credentials ({region.access_key_env}, {region.secret_key_env})")
    return s3.S3Server(state.s3, embedded_of(fleet, state).s3_port, key, secret)


@dataclass(frozen=True, slots=True)
class Login:
    """How a person reaches the UI."""

    url: str
    user: str
    password: str


def login_of(state: StateDir, fleet: Fleet) -> Login:
    """Airflow's URL and its administrator."""
    password = airflow.passwords(state).get(airflow.ADMIN, "")
    return Login(embedded_of(fleet, state).airflow_url, airflow.ADMIN, password)


def pool_of(region: Region) -> str:
    """Airflow pool of a region's actions."""
    return f"region-{region.name}"


@contextmanager
def _only_one(state: StateDir) -> Iterator[None]:
    """One `up` or `down` at a time on one state directory."""
    with (state.root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{state.root}: another `chainwright up` or `down` is at work") from None
        yield


def _ports_to_bind(state: StateDir, fleet: Fleet, embedded: Embedded) -> dict[str, int]:
    """Use to port, of the parts that do not run yet."""
    wanted: dict[str, int] = {}
    server = s3_server(state, fleet)
    if server.daemon.process() is None:
        wanted |= {f"object store ({use})": port for use, port in server.ports.items()}
    for region in fleet.regions:
        if nginx.daemon(state, region.name).process() is None:
            wanted[f"cache of {region.name}"] = embedded.cache_ports[region.name]
    for name, port in airflow.ports(embedded.airflow_port).items():
        if airflow.daemons(state)[name].process() is None:
            wanted[f"Airflow {name}"] = port
    return wanted


def _daemons(state: StateDir, fleet: Fleet) -> list[Daemon]:
    return [s3_server(state, fleet).daemon, *nginx.daemons(state), *airflow.daemons(state).values()]


def _sick_components(state: StateDir, embedded: Embedded) -> set[str]:
    try:
        return set(airflow.sick_components(state, embedded.airflow_port))
    except ChainwrightError:
        return set(airflow.COMPONENTS)


def _status(part: str, daemon: Daemon, url: str, answers: bool) -> PartStatus:
    process = daemon.process()
    return PartStatus(part, process.pid if process else None, process is not None and answers, url, daemon.log_file)
