"""Task notes: why an action was refused or lost is shown on its task instance, without opening a log.

Runs in the worker when a task of ours ends. Only Airflow's REST API can write a note, so this needs an account that
may edit task instances: the Airflow connection `chainwright_notes` (host: the API's base URL, login, password). Without
that connection nothing is noted and nothing fails.
"""

import logging
from typing import Any
from urllib.parse import quote

import httpx
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError

log = logging.getLogger(__name__)

CONNECTION = "chainwright_notes"
TELLING = {"refused", "lost", "superseded", "failed"}
MAX_NOTE = 900  # Airflow keeps 1,000 characters
TIMEOUT_SECONDS = 10.0


def note_of_error(error: object) -> str:
    """The one line of an error that Chainwright raises on purpose; empty for all others."""
    if not isinstance(error, BaseException):
        return ""
    ours = any(kind.__module__ == "tasks.errors" for kind in type(error).__mro__)
    return " ".join(str(error).split())[:MAX_NOTE] if ours else ""


def note_of_result(result: object) -> str:
    """Outcome and reason of an action that did not publish, or the checks that do not hold; empty for all others."""
    if not isinstance(result, dict):
        return ""
    if checks := result.get("checks"):
        return "; ".join(f"{check['table']}: {check['rule']} ({check['failures']})" for check in checks)[:MAX_NOTE]
    if result.get("outcome") not in TELLING:
        return ""
    reason = " ".join(str(result.get("reason") or "").split())
    disk = result.get("disk_id")
    return f"{disk + ': ' if disk else ''}{result['outcome']}{': ' + reason if reason else ''}"[:MAX_NOTE]


def put(instance: Any, note: str) -> None:
    """Write the note; a failure is a line in the log and nothing else."""
    try:
        account = Connection.get(CONNECTION)
    except (AirflowException, AirflowRuntimeError):  # it is not there
        log.debug("no connection %s: the note stays in the log: %s", CONNECTION, note)
        return
    try:
        _send(account, instance, note)
    except httpx.HTTPError as error:
        log.warning("the note could not be written: %s", error)


def _send(account: Any, instance: Any, note: str) -> None:
    scheme = account.schema or "http"
    host = account.host if "://" in account.host else f"{scheme}://{account.host}:{account.port or 80}"
    place = "/".join(
        [
            f"{host.rstrip('/')}/api/v2/dags/{quote(instance.dag_id, safe='')}",
            f"dagRuns/{quote(instance.run_id, safe='')}",
            f"taskInstances/{quote(instance.task_id, safe='')}/{instance.map_index}",
        ]
    )
    with httpx.Client(timeout=TIMEOUT_SECONDS) as client:
        login = {"username": account.login, "password": account.password}
        answer = client.post(f"{host.rstrip('/')}/auth/token", json=login).raise_for_status()
        token = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        client.patch(place, json={"note": note}, params={"update_mask": "note"}, headers=token).raise_for_status()
