"""Operator links: from a task instance to its disk's page and to its action's receipt.

A task says what it worked on by its result or by XComs named `disk_id` and `action_id`; a run of a one-disk DAG says it
by its configuration. Runs in the api-server, which may read the metadata database.
"""

import json
from typing import Any
from urllib.parse import quote, urlencode

from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

PAGE = "plugin/chainwright"
KEYS = ("disk_id", "action_id")
RESULT = "return_value"


def link_of(part: str, ti_key: Any) -> str:
    """`part` is disk or receipt. Empty (the link is not shown) if the task instance names none."""
    facts = _facts(ti_key)
    base = _base_url()
    if part == "disk" and facts.get("disk_id"):
        return f"{base}{PAGE}/disk?{urlencode({'disk': facts['disk_id']}, quote_via=quote)}"
    if part == "receipt" and facts.get("action_id"):
        return f"{base}{PAGE}/history?{urlencode({'action': facts['action_id']}, quote_via=quote)}"
    return ""


def facts_of(values: dict[str, Any], conf: dict[str, Any] | None) -> dict[str, str]:
    """Disk and action from XComs by key (the most exact wins), then from the run's configuration."""
    found: dict[str, Any] = {}
    if conf:
        found["disk_id"] = conf.get("disk_id") or conf.get("disk")
    result = values.get(RESULT)
    if isinstance(result, dict):
        found |= {key: result[key] for key in KEYS if result.get(key)}
    found |= {key: values[key] for key in KEYS if values.get(key)}
    return {key: value for key, value in found.items() if isinstance(value, str) and value}


def _facts(ti_key: Any) -> dict[str, str]:
    with create_session() as session:
        rows = session.execute(
            select(XComModel.key, XComModel.value).where(
                XComModel.dag_id == ti_key.dag_id,
                XComModel.run_id == ti_key.run_id,
                XComModel.task_id == ti_key.task_id,
                XComModel.map_index == ti_key.map_index,
                XComModel.key.in_([*KEYS, RESULT]),
            )
        ).all()
        conf = session.scalar(select(DagRun.conf).where(DagRun.dag_id == ti_key.dag_id, DagRun.run_id == ti_key.run_id))
    one_disk = conf if ti_key.dag_id in {"disk_maintenance", "cache_warm"} else None
    return facts_of({row.key: _decoded(row.value) for row in rows}, one_disk)


def _decoded(value: Any) -> Any:
    """XCom's stored JSON; never deserialised into objects."""
    try:
        loaded = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
    return json.loads(loaded) if isinstance(loaded, str) and loaded.startswith("{") else loaded


def _base_url() -> str:
    from airflow.configuration import conf

    return conf.get("api", "base_url", fallback="/").rstrip("/") + "/"
