"""Warming on the real parts: what it fetches is what a guest's reads need, once."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tasks.analytics.duck import open_manifest
from tasks.analytics.queries import find, run
from tasks.errors import ConfigError, NotFound, Refused
from tasks.inventory import manifest
from tasks.settings import Warm
from tasks.stages import reads, warm, warm_plan
from tasks.store.connect import control_store
from tasks.units import KIB, MIB
from tests.support.chains import LayerSpec, add_layer, build, guest_sha256, random_specs
from tests.support.site import Site, running_site

pytestmark = [pytest.mark.s3, pytest.mark.qemu]

BASE = LayerSpec(size=96 * MIB, writes=(("write", 0, 40 * MIB, 3), ("write", 60 * MIB, 9 * MIB, 4)))
KINDS = {
    "plain": BASE,
    "small_clusters": replace(BASE, cluster_size=4 * KIB),
    "large_clusters": replace(BASE, cluster_size=2 * MIB),
    "subclusters": replace(BASE, extended_l2=True),
    "v2": replace(BASE, version=2),
    "bitmap": replace(BASE, bitmap="b0"),
}


@pytest.fixture(scope="module")
def module_site(s3_server):
    with running_site(s3_server) as site:
        yield site


@pytest.fixture
def site(module_site) -> Site:
    module_site.cache.clear()
    module_site.cache.forget()
    return module_site


def make_chain(site: Site, disk: str, seed: int, first: LayerSpec = BASE, layers: int = 7):
    rng = random.Random(seed)
    over = replace(first, writes=(("write", 12 * MIB, 16 * MIB, 6),), bitmap=None)
    specs = [first, over, *random_specs(rng, layers, replace(first, writes=(), bitmap=None))]
    compressed = replace(specs[-1], version=3, extended_l2=False, writes=(("compressed", 8 * MIB, 2 * MIB, 7),))
    chain = build(site.folder / disk, [*specs, compressed] if first.cluster_size <= 64 * KIB else specs)
    site.add_disk(disk, chain)
    return chain


@pytest.mark.parametrize("kind", KINDS)
def test_warm_fetches_exactly_what_a_full_read_touches(site, kind):
    disk = f"exact-{kind}"
    chain = make_chain(site, disk, len(kind), KINDS[kind])
    site.scan()
    assert site.read_disk(disk, chain) == guest_sha256(chain.path(chain.tip))
    touched = site.fetched_slices()
    site.cache.clear()
    site.cache.forget()
    done = warm.warm(site.fleet, disk, "us-east", dry_run=False)
    warmed = site.fetched_slices()
    assert sorted(warmed) == sorted(set(touched))
    assert done["fetched"] == len(warmed)
    assert done["bytes"] < done["chain_bytes"]


def test_after_warming_a_full_read_asks_no_store(site):
    chain = make_chain(site, "zero", 1)
    site.scan()
    warm.warm(site.fleet, "zero", "us-east", dry_run=False)
    site.cache.forget()
    assert site.read_disk("zero", chain) == guest_sha256(chain.path(chain.tip))
    assert site.cache.upstream_requests() == 0


def test_a_dry_run_fetches_nothing_and_says_what_is_missing(site):
    make_chain(site, "dry", 2)
    site.scan()
    before = warm.warm(site.fleet, "dry", "us-east", dry_run=True)
    assert site.cache.upstream_requests() == 0
    assert before["present"] == 0
    done = warm.warm(site.fleet, "dry", "us-east", dry_run=False)
    assert (done["fetched"], done["fetched_bytes"]) == (before["missing"], before["missing_bytes"])
    after = warm.warm(site.fleet, "dry", "us-east", dry_run=True)
    assert (after["missing"], after["present"]) == (0, before["slices"])
    assert warm.is_warm(site.fleet, "dry", "us-east")


def test_eight_disks_on_one_base_fetch_no_slice_twice(site):
    base = make_chain(site, "shared-0", 3, layers=3)
    names = ["shared-0"]
    for number in range(1, 8):
        fork = build(
            site.folder / "shared-0", [LayerSpec(size=96 * MIB, writes=(("write", number << 20, 65536, 9),))], base
        )
        site.add_disk(f"shared-{number}", fork)
        names.append(f"shared-{number}")
    site.scan()
    results = warm.warm_disks(site.fleet, names, "us-east", dry_run=False)
    assert not [result for result in results if "error" in result]
    fetched = site.fetched_slices()
    assert len(fetched) == len(set(fetched))
    assert all(warm.is_warm(site.fleet, name, "us-east") for name in names)


def test_separate_runs_of_the_same_disks_fetch_no_slice_twice(site):
    make_chain(site, "twice", 4)
    site.scan()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: warm.warm(site.fleet, "twice", "us-east", dry_run=False), range(4)))
    fetched = site.fetched_slices()
    assert len(fetched) == len(set(fetched))


def test_a_tip_that_no_manifest_has_is_warmed_too(site):
    chain = make_chain(site, "old-part", 5)
    site.scan()
    for number in range(2):
        add_layer(chain, LayerSpec(size=96 * MIB, writes=(("write", (70 + number) << 20, 3 * MIB, 8),)))
    site.add_disk("fresh", chain)
    assert site.read_disk("fresh", chain) == guest_sha256(chain.path(chain.tip))
    touched = set(site.fetched_slices())
    site.cache.clear()
    site.cache.forget()
    done = warm.warm(site.fleet, "fresh", "us-east", dry_run=False)
    assert set(site.fetched_slices()) == touched
    assert done["chain_layers"] == len(chain.layers)


def test_without_any_manifest_the_headers_are_enough(s3_server):
    with running_site(s3_server) as site:
        chain = make_chain(site, "no-manifest", 6)
        warm.warm(site.fleet, "no-manifest", "us-east", dry_run=False)
        site.cache.forget()
        assert site.read_disk("no-manifest", chain) == guest_sha256(chain.path(chain.tip))
        assert site.cache.upstream_requests() == 0


def test_the_boot_trace_is_fetched_first(site):
    chain = make_chain(site, "boot", 7)
    site.scan()
    site.read_disk("boot", chain)
    reads.collect(site.fleet, "us-east")
    trace = [(row["layer_id"], row["slice_no"]) for row in site.rows("boot_traces") if row["disk_id"] == "boot"]
    assert trace
    site.cache.clear()
    site.cache.forget()
    one_by_one = site.fleet.model_copy(update={"warm": Warm(concurrency=1)})
    warm.warm(one_by_one, "boot", "us-east", dry_run=False)
    order = site.fetched_slices()
    opened = len(chain.layers)
    assert {number for _, number in order[:opened]} == {0}
    rest = [one for one in dict.fromkeys(trace) if one not in order[:opened]]
    assert order[opened : opened + len(rest)] == rest


def test_a_bound_on_bytes_is_kept_and_the_next_run_goes_on(site):
    make_chain(site, "bounded", 8)
    site.scan()
    first = warm.warm(site.fleet, "bounded", "us-east", dry_run=False, max_bytes=20 * MIB)
    assert first["left_out"] > 0
    assert first["fetched_bytes"] <= 20 * MIB
    second = warm.warm(site.fleet, "bounded", "us-east", dry_run=False)
    assert second["present"] >= first["fetched"]
    assert second["missing"] == 0
    fetched = site.fetched_slices()
    assert len(fetched) == len(set(fetched))


def test_a_bound_on_bandwidth_is_kept_by_all_runs_together(site):
    make_chain(site, "slow-1", 9)
    make_chain(site, "slow-2", 10)
    site.scan()
    rate = 30 * MIB
    slow = site.fleet.model_copy(update={"warm": Warm(bytes_per_second=rate, concurrency=4)})
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda disk: warm.warm(slow, disk, "us-east", dry_run=False), ["slow-1", "slow-2"]))
    total = sum(one["fetched_bytes"] for one in done)
    seconds = max(one["seconds"] for one in done)
    assert total > 2 * rate
    assert total / seconds < 1.35 * rate


def test_the_caches_capacity_bounds_a_cold_disk(site):
    make_chain(site, "capacity", 11)
    site.scan()
    first = site.fleet.regions[0].model_copy(update={"cache_bytes": 25 * MIB})
    small = site.fleet.model_copy(update={"regions": (first, *site.fleet.regions[1:])})
    done = warm.warm(small, "capacity", "us-east", dry_run=False)
    assert done["fetched_bytes"] <= 20 * MIB
    assert done["left_out"] > 0
    assert done["note"]


def test_targets_are_where_guests_waited(site):
    chain = make_chain(site, "target", 12, layers=2)
    site.scan()
    site.read_disk("target", chain)
    reads.collect(site.fleet, "us-east")
    (found,) = [item for item in warm_plan.plan_warm(site.fleet) if item["disk_id"] == "target"]
    assert (found["region"], found["reason"]) == ("us-east", "remote_misses")
    assert found["miss_bytes"] > 30 * MIB
    assert "policy.bring_home would merge" in found["why"]
    (result,) = warm.warm_result(site.fleet, "target", dry_run=True)
    assert result["missing"] == 0


def test_a_disk_that_is_asked_for_is_warmed_at_home_when_nobody_reads_it(site):
    make_chain(site, "unread", 13, layers=1)
    site.scan()
    (found,) = warm_plan.plan_warm(site.fleet, disk="unread")
    assert (found["disk_id"], found["region"], found["reason"]) == ("unread", "us-east", "asked_for")


def test_wrong_questions_are_answered_clearly(site):
    with pytest.raises(NotFound, match="nobody"):
        warm.warm(site.fleet, "nobody", "us-east", dry_run=True)
    with pytest.raises(NotFound, match="nobody"):
        warm_plan.plan_warm(site.fleet, disk="nobody")
    with pytest.raises(ConfigError, match="mars"):
        warm.warm(site.fleet, "x", "mars", dry_run=True)
    with pytest.raises(ConfigError, match="cache_url"):
        warm.warm(site.fleet, "x", "eu-west", dry_run=True)


def test_a_chain_with_a_missing_layer_is_refused(site):
    chain = make_chain(site, "broken", 14, layers=2)
    gone = site.uploaded[chain.layers[1]]
    site.stores[gone.region].delete(f"layers/{gone.layer_id}.qcow2")
    site.scan()
    with pytest.raises(Refused):
        warm.warm(site.fleet, "broken", "us-east", dry_run=False)


def test_the_estimate_for_people_names_every_slice_that_warming_fetches(site):
    make_chain(site, "estimate", 15)
    site.scan()
    warm.warm(site.fleet, "estimate", "us-east", dry_run=False)
    control = control_store(site.fleet)
    folder = manifest.stage(control, manifest.current_snapshot(control), site.folder / "estimate-stage")
    with open_manifest(folder) as connection:
        rows = run(connection, find("warm_slices"), {"disk_id": "estimate", "region": "us-east"}).dicts()
    assert set(site.fetched_slices()) <= {(row["layer_id"], row["slice_no"]) for row in rows}
