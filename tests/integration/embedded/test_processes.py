"""Ending what was started: the hard cases, with real processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tasks import clock
from tasks.embedded.daemon import Daemon
from tasks.embedded.processes import end, family, orphans
from tasks.embedded.state import ENV_MARKER

SLEEP = "import time; time.sleep(300)"
# A child in the same session, a grandchild in a session of its own, as Airflow's tasks and their tools.
TREE = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True)
print("ready", flush=True)
time.sleep(300)
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon("tree", tmp_path / "tree.pid", tmp_path / "tree.log")
    environment = {**os.environ, ENV_MARKER: str(tmp_path)}
    one.start([sys.executable, "-c", TREE], env=environment, cwd=tmp_path)
    while "ready" not in one.log_file.read_text():
        clock.sleep(0.05)
    yield one
    end(family([one], tmp_path), 2)


def test_the_whole_family_is_found_and_ended(daemon: Daemon, tmp_path: Path) -> None:
    members = family([daemon], tmp_path)
    assert len(members) == 3
    assert end(members, 5) == 3
    assert not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in members)


def test_orphans_of_a_killed_parent_are_found(daemon: Daemon, tmp_path: Path) -> None:
    leader = daemon.process()
    assert leader is not None
    leader.kill()
    psutil.wait_procs([leader], timeout=5)
    assert len([one for one in family([daemon], tmp_path) if one.pid != leader.pid]) == 2


def test_orphans_are_those_of_killed_leaders_only(daemon: Daemon) -> None:
    assert orphans([daemon]) == []
    leader = daemon.process()
    assert leader is not None
    leader.kill()
    psutil.wait_procs([leader], timeout=30)
    assert {one.pid for one in orphans([daemon]) if one.pid != leader.pid}


def test_a_pid_that_belongs_to_another_now_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    try:
        recorded = Daemon("old", tmp_path / "old.pid", tmp_path / "old.log")
        recorded.pid_file.write_text(f"{stranger.pid} 1.0\n")  # started long before
        assert family([recorded], tmp_path) == []
    finally:
        stranger.kill()
        stranger.wait()


def test_another_fleet_is_left_alone(daemon: Daemon, tmp_path: Path) -> None:
    assert family([], tmp_path / "other") == []
    assert len(family([], tmp_path)) == 3


def test_what_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(300)"
    )
    child = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    assert end([psutil.Process(child.pid)], 0.3) == 1
    assert not psutil.pid_exists(child.pid)
