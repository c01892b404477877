"""The head protocol on the real server: races in threads, both orders of promise 2, and the verbs."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.chain.head import Head
from tasks.errors import ChainwrightError, PreconditionFailed, Refused
from tasks.settings import Fleet
from tasks.store.connect import control_store
from tasks.store.heads import HeadStore, HeadVersion
from tests.support.cli import chainwright, chainwright_here, write_fleet_toml

pytestmark = pytest.mark.s3
OLD = "0" * 32


@pytest.fixture
def heads(fleet: Fleet) -> HeadStore:
    store = HeadStore(control_store(fleet))
    store.create(Head("vm", OLD, "disk", "us-east", virtual_size=1 << 20))
    return store


def together(*works: Callable[[], HeadVersion]) -> list[HeadVersion | ChainwrightError]:
    """Run all at once; answers in the order of `works`."""
    gate = threading.Barrier(len(works))

    def run(work: Callable[[], HeadVersion]) -> HeadVersion | ChainwrightError:
        gate.wait()
        try:
            return work()
        except ChainwrightError as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def test_one_of_many_creates(heads: HeadStore) -> None:
    answers = together(*(lambda n=n: heads.create(Head("new", f"{n:032x}", "disk", "us-east")) for n in range(8)))
    (winner,) = [answer for answer in answers if isinstance(answer, HeadVersion)]
    assert all(isinstance(answer, PreconditionFailed) for answer in answers if answer is not winner)
    assert heads.read("new") == winner


def test_one_of_many_starts(heads: HeadStore) -> None:
    answers = together(*(lambda n=n: heads.start("vm", f"host-{n}") for n in range(8)))
    (winner,) = [answer for answer in answers if isinstance(answer, HeadVersion)]
    assert {answer.reason for answer in answers if isinstance(answer, Refused)} == {"disk_running"}
    assert heads.read("vm") == winner


def test_one_of_many_actions_leases(heads: HeadStore) -> None:
    answers = together(*(lambda n=n: heads.acquire_lease("vm", f"act-{n}", f"a{n}", 60) for n in range(8)))
    (winner,) = [answer for answer in answers if isinstance(answer, HeadVersion)]
    assert {answer.reason for answer in answers if isinstance(answer, Refused)} == {"leased"}
    assert heads.read("vm") == winner


def test_attempts_of_one_action_publish_exactly_once(heads: HeadStore) -> None:
    def attempt(number: int) -> HeadVersion:
        held = heads.acquire_lease("vm", "act", f"a{number}", 60, tip=OLD)
        return heads.publish(held, f"{number + 1:032x}")

    answers = together(*(lambda n=n: attempt(n) for n in range(6)))
    (winner,) = [answer for answer in answers if isinstance(answer, HeadVersion)]
    losers = Counter(type(answer).__name__ for answer in answers if answer is not winner)
    assert set(losers) <= {"PreconditionFailed", "Refused"}
    now = heads.read("vm").head
    assert (now.tip, now.action_id, now.lease) == (winner.head.tip, "act", None)


@pytest.mark.parametrize("round_", range(6))
def test_start_and_publish_at_once_end_in_one_of_two_states(heads: HeadStore, round_: int) -> None:
    """Whatever the order: the VM runs. On the old tip the publish failed; on the new one it succeeded."""
    held = heads.acquire_lease("vm", "act", "a1", 60)
    new = "1" * 32
    started, published = together(lambda: heads.start("vm", "host-1"), lambda: heads.publish(held, new))
    assert isinstance(started, HeadVersion)
    now = heads.read("vm").head
    assert now.state == "running"
    assert now.lease is None
    assert now.tip == (new if isinstance(published, HeadVersion) else OLD)
    assert isinstance(published, HeadVersion | PreconditionFailed)


def test_start_under_a_lease_at_once_and_publish_after_it_fails(heads: HeadStore) -> None:
    held = heads.acquire_lease("vm", "act", "a1", 3600)
    assert heads.start("vm", "host-1").head.lease is None
    with pytest.raises(PreconditionFailed):
        heads.publish(held, "1" * 32)
    with pytest.raises(PreconditionFailed):
        heads.renew(held, 60)
    assert heads.read("vm").head.tip == OLD


def test_busy_head_loses_no_write(heads: HeadStore) -> None:
    """Starts, stops and leases from many threads: every acknowledged write is one generation."""

    def cycle(number: int) -> int:
        done = 0
        for turn in range(4):
            for work in (
                lambda t=turn: heads.acquire_lease("vm", f"act-{number}-{t}", f"l{number}.{t}", 0.0),
                lambda: heads.start("vm", f"host-{number}"),
                lambda: heads.stop("vm"),
            ):
                try:
                    work()
                    done += 1
                except Refused:
                    continue
        return done

    with ThreadPoolExecutor(4) as pool:
        writes = sum(pool.map(cycle, range(4)))
    assert writes > 8
    assert heads.read("vm").head.generation == writes + 1


def test_verbs(heads: HeadStore, fleet: Fleet, tmp_path: Path) -> None:
    toml = write_fleet_toml(fleet, tmp_path / "fleet.toml")
    shown = chainwright("head", "show", "vm", "--fleet", toml, "--json")
    assert (shown.code, shown.json["tip"], shown.json["state"]) == (0, OLD, "idle")
    heads.acquire_lease("vm", "act", "a1", 3600)
    assert "lease" in chainwright_here("head", "show", "vm", "--fleet", toml).out
    started = chainwright_here("head", "start", "vm", "--host", "h1", "--qmp", "unix:/run/q", "--fleet", toml, "--json")
    assert (started.json["state"], started.json["host"], started.json["lease"]) == ("running", "h1", None)
    assert "disk_running" in chainwright_here("head", "start", "vm", "--fleet", toml).line
    assert chainwright_here("head", "stop", "vm", "--fleet", toml).code == 0
    assert "disk_idle" in chainwright_here("head", "stop", "vm", "--fleet", toml).line
    assert chainwright_here("head", "clone", "vm", "vm-2", "--region", "eu-west", "--fleet", toml).code == 0
    assert heads.read("vm-2").head.home_region == "eu-west"
    assert "disk_exists" in chainwright_here("head", "clone", "vm", "vm-2", "--fleet", toml).line
    assert (
        "unknown region 'mars'"
        in chainwright_here("head", "clone", "vm", "x", "--region", "mars", "--fleet", toml).line
    )
    assert "no disk 'none'" in chainwright_here("head", "show", "none", "--fleet", toml).line
    assert "QMP address" in chainwright_here("head", "start", "vm", "--qmp", "http://x", "--fleet", toml).line
    assert chainwright_here("head", "start").code == 2
