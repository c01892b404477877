"""Registers Chainwright's pages with Airflow. Every Airflow process imports this file: it stays light.

The FastAPI app (DuckDB, Arrow) is imported by the api-server alone, when its first request comes.
"""

import importlib
from pathlib import Path
from typing import Any, ClassVar

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperatorLink

PREFIX = "/chainview"
DAGS = {"chain_inventory", "chain_maintenance", "disk_maintenance", "cache_warm", "layer_retire"}
STATIC = Path(__file__).parent / "chain_view" / "static"


class LazyApp:
    """An ASGI app that imports the real one on first use."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            self._app = importlib.import_module("chain_view.app").app
        await self._app(scope, receive, send)


class _ChainwrightLink(BaseOperatorLink):
    """Shown on every task instance that left a disk (or an action) behind; hidden on all others."""

    part: ClassVar[str]

    @property
    def name(self) -> str:
        raise NotImplementedError

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        links = importlib.import_module("chain_view.links")
        return str(links.link_of(self.part, ti_key))


class DiskLink(_ChainwrightLink):
    """From a task instance to the disk that it worked on."""

    part = "disk"

    @property
    def name(self) -> str:
        return "Chainwright: disk"


class ReceiptLink(_ChainwrightLink):
    """From a task instance to the receipt of its action."""

    part = "receipt"

    @property
    def name(self) -> str:
        return "Chainwright: receipt"


class NoteListener:
    """Puts the reason of a refusal on the task instance; see `chain_view.notes`."""

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:  # noqa: ARG002
        """An error of ours says what it is in one line."""
        if not _ours(task_instance):
            return
        notes = importlib.import_module("chain_view.notes")
        if note := notes.note_of_error(error):
            notes.put(task_instance, note)

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:  # noqa: ARG002
        """An action can end well without a merge: refused, or overtaken by a VM's start."""
        if not _ours(task_instance) or not hasattr(task_instance, "xcom_pull"):
            return
        notes = importlib.import_module("chain_view.notes")
        result = task_instance.xcom_pull(task_ids=task_instance.task_id, map_indexes=task_instance.map_index)
        if note := notes.note_of_result(result):
            notes.put(task_instance, note)


def _ours(task_instance: Any) -> bool:
    return task_instance.dag_id in DAGS


def _bundle(name: str) -> str:
    """Path of a built file under the app, with its age as version, so that browsers do not keep an old one."""
    file = STATIC / name
    version = file.stat().st_mtime_ns if file.exists() else 0
    return f"{PREFIX.lstrip('/')}/static/{name}?v={version:x}"


class ChainViewPlugin(AirflowPlugin):
    """Pages: one entry in the navigation, with the fleet, a disk, the findings, the plan and its history inside."""

    name = "chain_view"
    fastapi_apps = [{"app": LazyApp(), "url_prefix": PREFIX, "name": "chain_view"}]  # noqa: RUF012 - as Airflow has them
    react_apps = [  # noqa: RUF012
        {
            "name": "Chainwright",
            "bundle_url": _bundle("chain_view.js"),
            "destination": "nav",
            "url_route": "chainwright",
            "nav_top_level": True,
            "icon": _bundle("icon.svg"),
            "icon_dark_mode": _bundle("icon-dark.svg"),
        }
    ]
    global_operator_extra_links = [DiskLink(), ReceiptLink()]  # noqa: RUF012
    listeners = [NoteListener()]  # noqa: RUF012
