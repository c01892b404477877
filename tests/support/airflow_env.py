"""Airflow's settings for tests in this process, set before its first import; the first caller wins."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def prepare(home: Path) -> None:
    """Point Airflow at an empty home of its own."""
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
