"""Folders and reservations in the work directory, across threads and processes."""

import os
import signal
from pathlib import Path

import pytest

from tasks.errors import Permanent, Transient
from tasks.execute.workspace import reserve

MIB = 1 << 20


def test_the_folder_is_private_and_goes(tmp_path: Path) -> None:
    with reserve(tmp_path / "work", "a", MIB) as workspace:
        assert workspace.path.stat().st_mode & 0o777 == 0o700
        (workspace.path / "file").write_bytes(b"x")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["reserve.lock"]


def test_the_folder_goes_after_an_error_too(tmp_path: Path) -> None:
    def work() -> None:
        with reserve(tmp_path, "a", MIB) as workspace:
            (workspace.path / "file").write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not list(tmp_path.glob("a.*"))


def test_more_than_the_file_system_has(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"needs 4\.0 TiB, the file system has"), reserve(tmp_path, "a", 1 << 42):
        pass
    assert not list(tmp_path.glob("a.*"))


def test_the_cap_counts_all_actions(tmp_path: Path) -> None:
    with reserve(tmp_path, "a", 6 * MIB, cap_bytes=10 * MIB):
        with pytest.raises(Transient, match="other actions hold"), reserve(tmp_path, "b", 6 * MIB, cap_bytes=10 * MIB):
            pass
        with reserve(tmp_path, "c", 4 * MIB, cap_bytes=10 * MIB):
            pass
    with reserve(tmp_path, "b", 6 * MIB, cap_bytes=10 * MIB):
        pass
    with pytest.raises(Permanent, match="work_bytes allows"), reserve(tmp_path, "d", 11 * MIB, cap_bytes=10 * MIB):
        pass


def test_a_dead_owner_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with reserve(tmp_path, "dead", 8 * MIB, cap_bytes=10 * MIB) as workspace:
            (workspace.path / "file").write_bytes(b"x" * 1000)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "dead.d" / "file").exists()
    with reserve(tmp_path, "next", 8 * MIB, cap_bytes=10 * MIB):
        assert not list(tmp_path.glob("dead.*"))


def test_a_work_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Permanent, match="work directory"), reserve(tmp_path / "file", "a", MIB):
        pass
