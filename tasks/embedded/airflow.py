"""Airflow of the embedded fleet: what `airflow standalone` runs, as processes that can be ended one by one.

`airflow standalone` itself is not used: at SIGTERM it leaves its children behind. SQLite, LocalExecutor, loopback only.
Logs are read from the shared folder, so no log servers listen (they would on all interfaces).

The API for tasks has a process of its own. In one process with the API for people, the latter's access log commits in
the event loop: it waits for SQLite's lock while the request of a task that holds it waits for the event loop, and both
stand still until the lock's time-out (60 s), after which a person's click is answered by 500.
"""

import importlib.metadata
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tasks.embedded.airflow_api import AirflowApi, execution_api_answers
from tasks.embedded.daemon import Daemon
from tasks.embedded.ports import HOST
from tasks.embedded.state import ENV_MARKER, PROJECT, StateDir, write_private
from tasks.errors import ConfigError, Permanent, Transient
from tasks.retry import until_up
from tasks.settings import ENV_FLEET

ADMIN, VIEWER = "admin", "viewer"
NOTER = "chainwright"  # the account by which tasks note refusals on their task instances
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "api-server": ("api-server", "--apps", "core"),
    "execution-api": ("api-server", "--apps", "execution"),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
START_SECONDS = 240.0  # of two busy cores; a free one needs 15
_SECRETS = ("AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET")


def daemons(state: StateDir) -> dict[str, Daemon]:
    """Airflow's processes by name."""
    return {
        name: Daemon(f"Airflow {name}", state.run / f"airflow-{name}.pid", state.logs / f"airflow-{name}.log")
        for name in COMPONENTS
    }


def start(state: StateDir, port: int) -> None:
    """Start what does not run and wait until it answers. Permanent, with the log's end, if it does not come up."""
    _write_passwords(state)
    environment = _environment(state, port)
    _migrate(state, environment)
    for name, daemon in daemons(state).items():
        own = {"AIRFLOW__API__PORT": str(ports(port)[name])} if name in ports(port) else {}
        daemon.start([airflow_program(), *COMPONENTS[name]], env={**environment, **own}, cwd=PROJECT)


def wait_until_up(state: StateDir, port: int, seconds: float = START_SECONDS) -> AirflowApi:
    """Wait for every component's heartbeat and for the API that tasks talk to; a client signed in as admin."""
    api = api_of(state, port)
    running = daemons(state)
    for attempt in until_up(seconds):
        with attempt:
            for daemon in running.values():
                if daemon.process() is None:
                    raise Permanent(f"{daemon.name} ended: {daemon.log_tail()} (see {daemon.log_file})")
            unhealthy = sick_components(state, port)
            if unhealthy:
                raise Transient(f"Airflow is not up after {seconds:.0f} s: {', '.join(unhealthy)}; see {state.logs}")
    return api


def sick_components(state: StateDir, port: int) -> list[str]:
    """Components that are not healthy. Transient while the API for people does not answer."""
    sick = [
        "api-server" if name == "metadatabase" else name.replace("_", "-") for name in api_of(state, port).unhealthy()
    ]
    return sick if execution_api_answers(_execution_url(port)) else [*sick, "execution-api"]


def ports(port: int) -> dict[str, int]:
    """Component to the port that it binds, given the port of the UI."""
    return {"api-server": port, "execution-api": port + 1}


def api_of(state: StateDir, port: int) -> AirflowApi:
    """A client signed in as admin."""
    return AirflowApi(f"http://{HOST}:{port}", ADMIN, passwords(state).get(ADMIN, ""))


def passwords(state: StateDir) -> dict[str, str]:
    """User to password; empty before the first start."""
    try:
        return dict(json.loads(state.passwords.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{state.passwords}: {error}") from None


def airflow_program() -> str:
    """The `airflow` beside this Python."""
    program = Path(sys.executable).with_name("airflow")
    if not program.exists():
        raise ConfigError(f"{program}: no such program (is Airflow installed in this environment?)")
    return str(program)


def settings(state: StateDir, port: int) -> dict[str, str]:
    """Airflow's configuration as environment variables, without secrets."""
    dags = PROJECT / "dags"
    if not dags.is_dir():
        raise ConfigError(f"{dags}: no such folder (the embedded fleet runs from a clone of the project)")
    return {
        "AIRFLOW_HOME": str(state.airflow_home),
        "PYTHONPATH": str(PROJECT),
        ENV_FLEET: str(state.fleet_file),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",  # 32, the default, forks 32 idle workers
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",  # what changes data is in dry run by default
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": _execution_url(port),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin,{VIEWER}:viewer,{NOTER}:user",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(state.passwords),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{state.airflow_home / 'airflow.db'}?timeout=60",
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__BASE_URL": f"http://{HOST}:{port}",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # the first request builds the API: seconds of CPU
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",  # a new DAG file is seen after this, not after 5 minutes
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(state.airflow_home / "logs"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def _execution_url(port: int) -> str:
    return f"http://{HOST}:{ports(port)['execution-api']}/execution/"


def _environment(state: StateDir, port: int) -> dict[str, str]:
    """The components' whole environment: ours wins over any AIRFLOW variable that the caller has set."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)  # without bytecode each process spends 5 s more on imports
    notes = {"AIRFLOW_CONN_CHAINWRIGHT_NOTES": _notes_connection(state, port)}
    return {**inherited, **_secrets(state), **settings(state, port), **notes, ENV_MARKER: str(state.root)}


def _notes_connection(state: StateDir, port: int) -> str:
    """See plugins/chain_view/notes.py."""
    password = passwords(state).get(NOTER, "")
    return json.dumps({"conn_type": "http", "host": f"http://{HOST}:{port}", "login": NOTER, "password": password})


def _secrets(state: StateDir) -> dict[str, str]:
    """Keys that the components share; made once."""
    file = state.airflow_home / "secrets.json"
    if not file.exists():
        write_private(file, json.dumps({name: secrets.token_hex(48) for name in _SECRETS}))
    return dict(json.loads(file.read_text(encoding="utf-8")))


def _write_passwords(state: StateDir) -> None:
    known = passwords(state)
    missing = {user: secrets.token_urlsafe(9) for user in (ADMIN, VIEWER, NOTER) if user not in known}
    if missing:
        write_private(state.passwords, json.dumps({**known, **missing}) + "\n")


def _migrate(state: StateDir, environment: Mapping[str, str]) -> None:
    """Make or bring up to date the database; skipped where this version has done it and the file is there."""
    stamp = state.airflow_home / "migrated"
    wanted = importlib.metadata.version("apache-airflow")
    if (state.airflow_home / "airflow.db").exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    with (state.logs / "airflow-migrate.log").open("wb") as log:
        done = subprocess.run(
            [airflow_program(), "db", "migrate"],
            env=dict(environment),
            cwd=PROJECT,
            stdout=log,
            stderr=log,
            check=False,
        )
    if done.returncode != 0:
        raise Permanent(f"airflow db migrate failed; see {state.logs / 'airflow-migrate.log'}")
    stamp.write_text(wanted)
