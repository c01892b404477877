"""Queries that do not fit in memory spill where the user may write, whoever else uses the host."""

import os
from pathlib import Path

import pytest

from tasks.analytics.duck import open_manifest


def spill_folder(directory: Path) -> Path:
    with open_manifest(directory) as connection:
        row = connection.execute("SELECT current_setting('temp_directory')").fetchone()
    assert row is not None
    return Path(row[0])


def test_two_users_of_a_host_do_not_share_a_spill_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = spill_folder(tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert spill_folder(tmp_path) != mine
