"""From a real cache's log to rows of the manifest, exactly once."""

import gzip
import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.errors import ChainwrightError, PreconditionFailed
from tasks.inventory import manifest
from tasks.stages import inventory, reads
from tasks.store import keys
from tasks.store.connect import control_store, open_store
from tests.conftest import make_fleet
from tests.support.cache_server import put_layer, running_cache

pytestmark = pytest.mark.s3


@pytest.fixture
def site(s3_server, tmp_path):
    """A fleet with a manifest and a running cache in us-east whose log is the region's."""
    fleet = make_fleet(s3_server, tmp_path / "work")
    stores = {region.name: open_store(region) for region in fleet.regions}
    layers = [put_layer(stores, region, secrets.token_bytes(300_000)) for region in ("us-east", "eu-west")]
    inventory.run_inventory(fleet)
    with running_cache(fleet, "us-east") as cache:
        first = fleet.regions[0].model_copy(update={"cache_log": str(cache.access_log)})
        yield fleet.model_copy(update={"regions": (first, *fleet.regions[1:])}), cache, layers, tmp_path


def rows(fleet, dataset: str) -> list[dict]:
    control = control_store(fleet)
    snapshot = manifest.current_snapshot(control)
    folder = manifest.stage(control, snapshot, Path(fleet.work_dir) / "test-stage")
    return [row for path in sorted((folder / dataset).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def totals(fleet) -> tuple[int, int]:
    found = rows(fleet, "reads")
    return sum(row["requests"] for row in found), sum(row["bytes"] for row in found)


def guest_reads(cache, layer: str, count: int, path: str = "/layers", **headers: str) -> None:
    who = {"X_Chainwright_Disk": "d1", "X_Chainwright_Client": "guest", **headers}
    for number in range(count):
        assert cache.get(f"{path}/{layer}.qcow2", number * 10, number * 10 + 9, **who).status == 206


def test_rows_are_by_disk_layer_regions_and_status(site):
    fleet, cache, (here, there), _ = site
    guest_reads(cache, here, 3)
    guest_reads(cache, there, 2)
    done = reads.collect(fleet, "us-east")
    assert (done["lines"], done["bad_lines"]) == (5, 0)
    found = {(row["layer_id"], row["layer_region"], row["cache_status"]): row for row in rows(fleet, "reads")}
    assert {key: (row["requests"], row["bytes"]) for key, row in found.items()} == {
        (here, "us-east", "hit"): (2, 20),
        (here, "us-east", "miss"): (1, 10),
        (there, "eu-west", "hit"): (1, 10),
        (there, "eu-west", "miss"): (1, 10),
    }
    assert found[there, "eu-west", "miss"]["upstream_bytes"] > 300_000
    assert all(sum(row["latency_us"]) == row["requests"] for row in found.values())


def test_the_manifest_says_where_a_cached_layer_lives(site):
    fleet, cache, (_, there), _ = site
    guest_reads(cache, there, 1)
    cache.forget()
    guest_reads(cache, there, 1, "/cached/layers")
    assert cache.log()[0]["layer_region"] == ""
    reads.collect(fleet, "us-east")
    assert {row["layer_region"] for row in rows(fleet, "reads")} == {"eu-west"}


def test_warming_is_not_taken_for_demand(site):
    fleet, cache, (here, _), _ = site
    guest_reads(cache, here, 2, X_Chainwright_Client="warm")
    done = reads.collect(fleet, "us-east")
    assert (done["own_lines"], done["reads"]) == (2, 0)


def test_a_line_is_counted_once_however_often_it_is_collected(site):
    fleet, cache, (here, _), _ = site
    guest_reads(cache, here, 4)
    for _ in range(3):
        reads.collect(fleet, "us-east")
    guest_reads(cache, here, 1)
    reads.collect(fleet, "us-east")
    assert totals(fleet) == (5, 50)


def test_rotation_between_runs_loses_and_doubles_nothing(site):
    fleet, cache, (here, _), _ = site
    for _ in range(3):
        guest_reads(cache, here, 3)
        reads.collect(fleet, "us-east")
        guest_reads(cache, here, 2)
        cache.access_log.rename(cache.access_log.with_name(f"{cache.access_log.name}.{secrets.token_hex(4)}"))
        cache.reopen_logs()
        from tests.support.cache_server import wait_until

        wait_until(cache.access_log.exists)
    reads.collect(fleet, "us-east")
    assert totals(fleet) == (15, 150)


def test_collecting_twice_at_once_counts_once(site):
    fleet, cache, (here, _), _ = site
    guest_reads(cache, here, 5)

    def attempt(_: int) -> str:
        try:
            return str(reads.collect(fleet, "us-east")["lines"])
        except PreconditionFailed:
            return "lost"

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(attempt, range(4)))
    assert outcomes.count("5") == 1
    assert totals(fleet) == (5, 50)


def test_an_inventory_in_between_keeps_rows_and_position(site):
    fleet, cache, (here, _), _ = site
    guest_reads(cache, here, 2)
    reads.collect(fleet, "us-east")
    inventory.run_inventory(fleet)
    guest_reads(cache, here, 1)
    reads.collect(fleet, "us-east")
    assert totals(fleet) == (3, 30)


def test_a_crash_before_the_manifest_is_written_counts_once(site, monkeypatch):
    fleet, cache, (here, _), _ = site
    guest_reads(cache, here, 2)
    with monkeypatch.context() as broken:
        broken.setattr(reads, "append_under_cursor", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            reads.collect(fleet, "us-east")
    reads.collect(fleet, "us-east")
    assert totals(fleet) == (2, 20)


def test_junk_in_the_log_is_counted_and_passed_over(site):
    fleet, cache, (here, _), _ = site
    guest_reads(cache, here, 1)
    with cache.access_log.open("ab") as file:
        file.write(b'{"time":1,"cut\n\x00\x00\x00\n')
    guest_reads(cache, here, 1)
    done = reads.collect(fleet, "us-east")
    assert done["bad_lines"] == 2
    assert totals(fleet) == (2, 20)


def test_lines_of_a_future_day_are_left_out(site):
    """Findings count back from the newest row: one of the year 2100 would make all others too old to count."""
    fleet, cache, (here, _), _ = site
    guest_reads(cache, here, 1)
    line = json.loads(cache.access_log.read_text(encoding="utf-8").splitlines()[-1])
    with cache.access_log.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, "time": 4102444800.5}) + "\n" + json.dumps({**line, "time": 1e300}) + "\n")
    guest_reads(cache, here, 1)
    assert reads.collect(fleet, "us-east")["bad_lines"] == 2
    assert totals(fleet) == (2, 20)


def test_more_than_one_step_of_log_is_read_to_its_end(site):
    fleet, cache, (here, _), _ = site
    guest_reads(cache, here, 5)
    done = reads.collect(fleet, "us-east", max_bytes=600)  # one or two lines
    assert done["lines"] == 5
    assert totals(fleet) == (5, 50)


def test_the_boot_trace_is_in_order_of_first_touch(site):
    fleet, cache, (here, there), _ = site
    import time

    start = str(int(time.time()))
    for layer in (there, here, there):
        guest_reads(cache, layer, 1, X_Chainwright_Start=start)
        time.sleep(0.02)
    reads.collect(fleet, "us-east")
    found = sorted(rows(fleet, "boot_traces"), key=lambda row: row["position"])
    assert [(row["disk_id"], row["layer_id"], row["slice_no"]) for row in found] == [("d1", there, 0), ("d1", here, 0)]
    assert int(found[0]["started_at"].timestamp()) == int(start)


def test_before_the_first_scan_the_logs_wait(s3_server, tmp_path):
    fleet = make_fleet(s3_server, tmp_path / "work")
    assert "no manifest yet" in reads.collect(fleet, "us-east")["note"]


def test_a_log_that_is_not_on_this_worker_is_named(site):
    fleet, _, _, _ = site
    first = fleet.regions[0].model_copy(update={"cache_log": "/nowhere/us-east.access.log"})
    with pytest.raises(ChainwrightError, match=r"regions\.us-east\.cache_log"):
        reads.collect(fleet.model_copy(update={"regions": (first, *fleet.regions[1:])}), "us-east")


def test_a_shipped_log_may_be_compressed_and_a_broken_object_is_left_out(site, caplog):
    fleet, cache, (here, _), _ = site
    guest_reads(cache, here, 2)
    assert len(cache.log()) == 2
    lines = b"".join(cache.access_log.read_bytes().splitlines(keepends=True)[-2:])
    first = fleet.regions[0].model_copy(update={"cache_log": f"s3://{fleet.regions[0].bucket}/logs/"})
    shipped = fleet.model_copy(update={"regions": (first, *fleet.regions[1:])})
    store = open_store(first)
    store.put_new("logs/2026-02-06-1.json.gz", gzip.compress(lines)[:-20])
    store.put_new("logs/2026-02-06-2.json.gz", gzip.compress(lines))
    done = reads.collect(shipped, "us-east")
    assert done["bad_lines"] == 0
    assert totals(shipped) == (2, 20)
    assert "2026-02-06-1.json.gz" in caplog.text


def test_readers_past_the_cache_come_from_the_stores_own_log(site):
    fleet, _, (here, _), _ = site
    bucket = fleet.regions[0].bucket
    first = type(fleet.regions[0]).model_validate(
        fleet.regions[0].model_dump()
        | {"store_log": f"s3://{bucket}/logs/", "cache_log": "", "networks": ["10.0.0.0/8"]}
    )
    fleet = fleet.model_copy(update={"regions": (first, *fleet.regions[1:])})
    line = (
        f'o {bucket} [06/Feb/2026:10:00:38 +0000] {{ip}} r q REST.GET.OBJECT {keys.layer(here)} "GET / HTTP/1.1" 206 - '
        '1000 300000 41 28 "-" "qemu" - h S c - b T - -\n'
    )
    store = open_store(first)
    store.put_new("logs/2026-02-06-11-00-00-A", (line.format(ip="10.2.3.4") * 2).encode())
    store.put_new("logs/2026-02-06-11-00-01-B", b"junk\n" + line.format(ip="192.0.2.1").encode())
    assert reads.collect(fleet, "us-east")["bad_lines"] == 1
    store.put_new("logs/2026-02-06-10-59-00-late", line.format(ip="10.2.3.4").encode())
    assert reads.collect(fleet, "us-east")["lines"] == 1
    found = {(row["reader_region"], row["layer_region"], row["cache_status"]) for row in rows(fleet, "reads")}
    assert found == {("us-east", "us-east", "none"), ("", "us-east", "none")}
    assert totals(fleet) == (4, 4000)
