"""A merge, its readers in another region, and retirement: the old layers go only when the new one is warm there."""

import dataclasses
import hashlib

import pytest

from tasks.settings import Fleet
from tasks.stages import inventory, maintain, reads, retire, warm, warm_plan
from tasks.stages.export import export_disk
from tasks.units import MIB
from tests.support.chains import Chain, LayerSpec, build, guest_sha256
from tests.support.ports import free_port
from tests.support.site import Site, running_site

pytestmark = [pytest.mark.s3, pytest.mark.qemu]

SPECS = [LayerSpec(size=32 * MIB, writes=(("write", n * 2 * MIB, 3 * MIB, n + 1),)) for n in range(6)]


@pytest.fixture
def site(s3_server):
    with running_site(s3_server) as one:
        yield one


def merged(site: Site, *, warmed: bool) -> Chain:
    """Disk `vm` of eu-west, read in us-east through the cache, then merged. `warmed`: us-east's cache was reachable."""
    chain = build(site.folder / "vm", SPECS)
    site.add_disk("vm", chain, regions=("eu-west",), home="eu-west")
    site.scan()
    site.read_disk("vm", chain)
    reads.collect(site.fleet, "us-east")
    fleet = site.fleet if warmed else with_cache(site.fleet, f"http://127.0.0.1:{free_port()}")
    planned = maintain.plan_disk(fleet, "vm", "merge")
    (item,) = planned["items"]
    done = maintain.merge(fleet, item["plan_id"], item["action_id"], "test")
    assert done["outcome"] == "published"
    assert ["error" in one for one in done["warmed"]] == [not warmed]
    return chain


def with_cache(fleet: Fleet, url: str) -> Fleet:
    regions = tuple(one.model_copy(update={"cache_url": url}) if one.cache_url else one for one in fleet.regions)
    return fleet.model_copy(update={"regions": regions})


def without_grace(fleet: Fleet, **changes: object) -> Fleet:
    margins = {"grace_hours": 0.0, "allow_short_grace": True, "max_retired_share": 1.0, **changes}
    safety = dataclasses.replace(fleet.policy.safety, **margins)  # type: ignore[arg-type]
    return fleet.model_copy(update={"policy": dataclasses.replace(fleet.policy, safety=safety)})


def test_a_merge_warms_its_result_and_the_old_layers_go(site):
    merged(site, warmed=True)
    fleet = without_grace(site.fleet)
    marked = retire.retire(fleet, dry_run=False)["marked"]
    done = retire.retire(fleet, dry_run=False)
    assert marked
    assert (sorted(done["swept"]), done["cold"]) == (sorted(marked), {})
    assert warm.is_warm(site.fleet, "vm", "us-east")


def test_old_layers_wait_until_the_new_one_is_warm_where_they_were_read(site):
    chain = merged(site, warmed=False)
    fleet = without_grace(site.fleet)
    marked = retire.retire(fleet, dry_run=False)["marked"]
    for dry_run in (True, False):
        held = retire.retire(fleet, dry_run=dry_run)
        assert held["swept"] == []
        assert set(held["cold"]) == set(marked)
        assert "disk vm in us-east" in next(iter(held["cold"].values()))
    (target,) = [one for one in warm_plan.plan_warm(site.fleet) if one["disk_id"] == "vm"]
    assert target["region"] == "us-east"
    warm.warm(site.fleet, "vm", "us-east", dry_run=False)
    assert sorted(retire.retire(fleet, dry_run=False)["swept"]) == sorted(marked)
    export_disk(site.fleet, "vm", site.folder / "after.raw")
    assert hashlib.sha256((site.folder / "after.raw").read_bytes()).hexdigest() == guest_sha256(chain.path(chain.tip))


def test_a_cache_that_cannot_be_reached_holds_them_for_a_bounded_time_only(site):
    merged(site, warmed=False)
    away = with_cache(site.fleet, f"http://127.0.0.1:{free_port()}")
    marked = retire.retire(without_grace(away), dry_run=False)["marked"]
    held = retire.retire(without_grace(away), dry_run=False)
    assert set(held["cold"]) == set(marked)
    over = retire.retire(without_grace(away, warm_wait_hours=0.0), dry_run=False)
    assert sorted(over["swept"]) == sorted(marked)


def test_a_disk_that_is_gone_is_not_waited_for(site):
    merged(site, warmed=False)
    fleet = without_grace(site.fleet)
    retire.retire(fleet, dry_run=False)
    site.stores["us-east"].delete("heads/vm.json")
    site.add_disk("other", build(site.folder / "other", SPECS[:1]))
    inventory.run_inventory(site.fleet)
    assert retire.retire(fleet, dry_run=False)["cold"] == {}
