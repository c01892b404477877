"""The limits of a run hold for all its disks together, and an interrupt ends it."""

import signal
import subprocess
import sys
import time

import pytest

from tasks.cache import warmer
from tasks.settings import Fleet, Warm
from tasks.stages import warm
from tasks.units import MIB
from tests.integration.cache.test_warm import make_chain
from tests.support.cache_server import wait_until
from tests.support.cli import chainwright_here, write_fleet_toml
from tests.support.site import Site, running_site

pytestmark = [pytest.mark.s3, pytest.mark.qemu]
DISKS = ["one", "two", "three"]  # of about 60 MiB each


@pytest.fixture(scope="module")
def module_site(s3_server):
    with running_site(s3_server) as site:
        for number, disk in enumerate(DISKS):
            make_chain(site, disk, 20 + number)
        site.scan()
        yield site


@pytest.fixture
def site(module_site, tmp_path) -> Site:
    module_site.cache.clear()
    module_site.cache.forget()
    return module_site


def changed(site: Site, tmp_path, cache_bytes: int = 0, **limits: int) -> Fleet:
    first = site.fleet.regions[0].model_copy(update={"cache_bytes": cache_bytes})
    regions = (first, *site.fleet.regions[1:])
    return site.fleet.model_copy(
        update={"regions": regions, "warm": Warm.model_validate(limits), "work_dir": str(tmp_path)}
    )


def test_a_run_bounds_the_bytes_of_all_its_disks(site, tmp_path):
    fleet = changed(site, tmp_path, bytes_per_run=20 * MIB)
    done = warm.warm_disks(fleet, DISKS, "us-east", dry_run=False)
    assert 16 * MIB < sum(one["fetched_bytes"] for one in done) <= 20 * MIB
    assert {one["note"] for one in done} == {"the run's limit of bytes"}
    again = warm.warm_disks(fleet, DISKS, "us-east", dry_run=False)  # another run: it goes on
    assert sum(one["fetched_bytes"] for one in again) > 16 * MIB


def test_tasks_of_one_run_share_its_bound(site, tmp_path):
    fleet = changed(site, tmp_path, bytes_per_run=20 * MIB)
    done = [warm.warm(fleet, disk, "us-east", dry_run=False, run="scheduled") for disk in DISKS]
    assert 16 * MIB < sum(one["fetched_bytes"] for one in done) <= 20 * MIB


def test_what_was_warmed_before_takes_room_in_the_cache(site, tmp_path):
    fleet = changed(site, tmp_path, cache_bytes=25 * MIB)
    done = [warm.warm(fleet, disk, "us-east", dry_run=False) for disk in DISKS]
    assert 16 * MIB < sum(one["fetched_bytes"] for one in done) <= 20 * MIB
    assert "is full" in done[-1]["note"]
    assert warm.warm(fleet, "three", "us-east", dry_run=True)["allowed_bytes"] < 4 * MIB


def test_an_interrupt_ends_warming_at_once(site, tmp_path):
    fleet = changed(site, tmp_path, bytes_per_second=MIB)
    write_fleet_toml(fleet, tmp_path / "fleet.toml")
    code = "import signal, sys; from tasks.cli.main import main\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job of a shell ignores it
    code += "sys.exit(main())"
    argv = [sys.executable, "-c", code, "warm", "one", "--region", "us-east", "--fleet", str(tmp_path / "fleet.toml")]
    running = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: site.cache.upstream_requests() > 3, 30)
        running.send_signal(signal.SIGINT)
        started = time.monotonic()
        running.wait(10)
        assert running.returncode == 130
        assert time.monotonic() - started < 5
    finally:
        running.kill()


def test_a_long_run_tells_how_far_it_is(site, tmp_path, monkeypatch):
    monkeypatch.setattr(warmer, "_PROGRESS_SECONDS", 0.2)
    write_fleet_toml(changed(site, tmp_path, bytes_per_second=20 * MIB), tmp_path / "fleet.toml")
    done = chainwright_here("warm", "one", "--region", "us-east", "--fleet", tmp_path / "fleet.toml")
    assert done.code == 0
    assert "one in us-east: " in done.err
    assert "ETA" in done.err
