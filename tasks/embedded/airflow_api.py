"""Airflow's REST API, the few calls that `up`, `demo` and the tests make."""

import contextlib
import json
import secrets
from collections.abc import Mapping
from typing import Any

import urllib3

from tasks import clock
from tasks.errors import NotFound, Permanent, PreconditionFailed, Transient
from tasks.retry import store_call

FINISHED = frozenset({"success", "failed"})
_PROBLEMS = {404: NotFound, 409: PreconditionFailed}
_TOKEN_SECONDS = 3600.0  # Airflow's last a day


class AirflowApi:
    """One signed-in user. Every call is one that may be repeated, and is, while there is no answer or a 5xx.

    Transient: that went on too long; NotFound: 404; PreconditionFailed: 409; Permanent: any other refusal.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self._user, self._password = user, password
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=5, read=90))
        self._token = ""
        self._token_at = 0.0

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request below /api/v2; the parsed answer (None when empty)."""
        return store_call()(
            lambda: self._send(method, f"/api/v2{path}", body, {"Authorization": f"Bearer {self._bearer()}"})
        )

    def unhealthy(self) -> list[str]:
        """Names of the components without a fresh heartbeat. Transient while nothing answers."""
        health: dict[str, dict[str, str]] = self._send("GET", "/api/v2/monitor/health", None, {})
        return sorted(name for name, state in health.items() if state.get("status") != "healthy")

    def put_pool(self, name: str, slots: int, description: str) -> None:
        """Create the pool, unless it is there: an operator's own slots are kept."""
        with contextlib.suppress(PreconditionFailed):
            self.call("POST", "/pools", {"name": name, "slots": slots, "description": description})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run by hand; its id."""
        run_id = f"manual__{clock.now().isoformat(timespec='seconds')}_{secrets.token_hex(4)}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})}
        with contextlib.suppress(PreconditionFailed):  # the first try had been heard
            self.call("POST", f"/dags/{dag_id}/dagRuns", body)
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """queued, running, success or failed."""
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def wait(self, dag_id: str, run_id: str, seconds: float) -> str:
        """The run's state once it is finished; Transient when it is not after that time."""
        deadline = clock.monotonic() + seconds
        while (state := self.run_state(dag_id, run_id)) not in FINISHED:
            if clock.monotonic() > deadline:
                raise Transient(
                    f"{dag_id} {run_id}: still {state} after {seconds:.0f} s; see {self.run_url(dag_id, run_id)}"
                )
            clock.sleep(0.5)
        return state

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Every task instance of the run, mapped ones one by one."""
        found: list[dict[str, Any]] = []
        while True:
            path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100&offset={len(found)}"
            page = self.call("GET", path)
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return found

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Any:
        """What the task returned."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value?map_index={map_index}"
        value = self.call("GET", path)["value"]
        return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value

    def run_url(self, dag_id: str, run_id: str) -> str:
        """Where a person looks at the run."""
        return f"{self.url}/dags/{dag_id}/runs/{run_id}"

    def _bearer(self) -> str:
        if not self._token or clock.monotonic() - self._token_at > _TOKEN_SECONDS:
            body = {"username": self._user, "password": self._password}
            self._token = str(self._send("POST", "/auth/token", body, {})["access_token"])
            self._token_at = clock.monotonic()
        return self._token

    def _send(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self._pool.request(
                method, self.url + path, body=data, headers={"Content-Type": "application/json", **headers}
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Transient(f"Airflow at {self.url}: no answer ({type(error).__name__})") from None
        if answer.status >= 500:
            raise Transient(f"Airflow: {method} {path}: {answer.status}")
        if answer.status >= 400:
            problem = _PROBLEMS.get(answer.status, Permanent)
            raise problem(f"Airflow: {method} {path}: {answer.status} {_detail(answer.data)}")
        return json.loads(answer.data) if answer.data else None


def execution_api_answers(url: str) -> bool:
    """Is the API for tasks up? The first question builds it, seconds of CPU: better now than while a task waits."""
    try:
        return bool(urllib3.request("GET", f"{url}health", retries=False, timeout=90).status == 200)
    except (urllib3.exceptions.HTTPError, OSError):
        return False


def _detail(data: bytes) -> str:
    try:
        detail = json.loads(data).get("detail")
    except (ValueError, AttributeError):
        detail = data[:200].decode(errors="replace")
    return detail if isinstance(detail, str) else json.dumps(detail)
