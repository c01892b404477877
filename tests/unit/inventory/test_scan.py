"""Scans of buckets in memory: what becomes a row, what is read again, what a fault leaves behind."""

import dataclasses
import errno
import itertools
import json
import os
import threading
import uuid
from pathlib import Path

import pytest

from tasks.chain import qcow2_reasons as why
from tasks.chain.extent import COLUMNS
from tasks.chain.head import Head, head_to_json
from tasks.chain.layer import ExtentKind
from tasks.errors import OutcomeUnknown, Permanent, PreconditionFailed, Transient
from tasks.inventory import manifest, parts, publish, shard_scan, shards
from tasks.inventory.fetch import StoreSource
from tasks.inventory.layer_scan import ScanRules
from tasks.store import keys
from tasks.store.base import ObjectInfo
from tests.fakes.store import Fault, FaultyStore, MemoryStore
from tests.support.inventory import Fleet
from tests.support.qcow2_bytes import DATA, ZERO, Image, build, chain

NAMES = [f"{n:032x}.qcow2" for n in range(0x1000, 0x1000 + 200)]
IDS = [name.removesuffix(".qcow2") for name in NAMES]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def head(disk: str, tip: str) -> bytes:
    return json.dumps(head_to_json(Head(disk, tip, "disk", "us-east", updated_at="2026-01-01T00:00:00+00:00"))).encode()


def test_rows_of_a_chain_over_two_regions(fleet: Fleet) -> None:
    files = chain(20, NAMES)
    fleet.put("us-east", {name: files[name] for name in NAMES[:10]})
    fleet.put("eu-west", {name: files[name] for name in NAMES[10:20]})
    fleet.control.put_new(keys.head("vm"), head("vm", IDS[19]))
    snapshot = fleet.scan()
    layers = fleet.layers()
    assert snapshot.complete
    assert snapshot.summary["layers"] == 20
    assert {row["status"] for row in layers.values()} == {"ok"}
    assert sorted(row["layer_no"] for row in layers.values()) == list(range(20))
    for n in range(1, 20):
        assert layers[IDS[n]]["backing_layer_id"] == IDS[n - 1]
        assert layers[IDS[n]]["parent_no"] == layers[IDS[n - 1]]["layer_no"]
    assert layers[IDS[0]]["parent_no"] is None
    row = layers[IDS[5]]
    assert (row["extents"], row["data_bytes"], row["zero_bytes"], row["stored_bytes"]) == (3, 512, 1024, 512)
    assert fleet.table("heads").to_pylist()[0]["tip_no"] == layers[IDS[19]]["layer_no"]


def test_extents_are_sorted_and_those_of_the_layer(fleet: Fleet) -> None:
    fleet.put("us-east", chain(30, NAMES))
    fleet.scan()
    extents = fleet.extents()
    assert [start for start, *_ in extents[IDS[7]]] == [7 * 512, 8 * 512, 9 * 512]
    assert [kind for _, _, kind, *_ in extents[IDS[7]]] == [0, 1, 2]
    table = fleet.table("extents")
    order = list(zip(table["layer_no"].to_pylist(), table["start"].to_pylist(), strict=True))
    assert order == sorted(order)
    assert table.column_names[1:] == list(COLUMNS)


def test_an_unchanged_fleet_costs_its_listing_only(fleet: Fleet) -> None:
    fleet.put("us-east", chain(20, NAMES))
    first = fleet.scan()
    store = FaultyStore(fleet.stores["us-east"])
    fleet.stores["us-east"] = store
    second = fleet.scan()
    assert set(store.calls) == {"list"}
    assert second.snapshot_id != first.snapshot_id
    assert second.datasets == first.datasets
    assert second.next_layer_no == first.next_layer_no


def test_numbers_stay_and_are_not_used_again(fleet: Fleet) -> None:
    fleet.put("us-east", chain(10, NAMES))
    fleet.scan()
    before = {name: row["layer_no"] for name, row in fleet.layers().items()}
    fleet.stores["us-east"].delete(keys.layer(IDS[9]))
    fleet.put("us-east", {NAMES[20]: build(Image({0: DATA}))})
    fleet.scan()
    after = {name: row["layer_no"] for name, row in fleet.layers().items()}
    assert IDS[9] not in after
    assert after.pop(IDS[20]) == 10
    assert all(before[name] == number for name, number in after.items())


def test_a_layer_that_was_replaced_gets_a_new_number(fleet: Fleet) -> None:
    fleet.put("us-east", chain(3, NAMES))
    fleet.scan()
    fleet.stores["us-east"].delete(keys.layer(IDS[1]))
    fleet.put("us-east", {NAMES[1]: build(Image({9: ZERO}, backing=NAMES[0]))})
    fleet.scan()
    layers = fleet.layers()
    assert layers[IDS[1]]["layer_no"] == 3
    assert layers[IDS[2]]["parent_no"] == 3
    assert fleet.extents()[IDS[1]] == [(9 * 512, 512, ExtentKind.ZERO, -1, 0)]


def test_broken_objects_are_rows_and_stop_nothing(fleet: Fleet) -> None:
    good = chain(5, NAMES)
    fleet.put("us-east", good)
    fleet.put(
        "us-east",
        {
            NAMES[10]: b"",
            NAMES[11]: b"not an image",
            NAMES[12]: good[NAMES[1]][:300],
            NAMES[13]: build(Image({}, backing="/etc/passwd")),
            NAMES[14]: build(Image({}, backing=NAMES[14])),
            NAMES[15]: build(Image({}, backing="stranger.qcow2")),
            "readme.txt": b"hello",
            "sub/" + NAMES[0]: good[NAMES[0]],
        },
    )
    snapshot = fleet.scan()
    layers = fleet.layers()
    found = {name: (layers[name]["status"], layers[name]["reason"]) for name in (*IDS[10:16], "readme.txt")}
    assert found == {
        IDS[10]: ("refused", why.BAD_MAGIC),
        IDS[11]: ("refused", why.BAD_MAGIC),
        IDS[12]: ("refused", why.L1_OUTSIDE),
        IDS[13]: ("refused", why.BACKING_ABSOLUTE),
        IDS[14]: ("refused", why.BACKING_SELF),
        IDS[15]: ("ok", None),
        "readme.txt": ("refused", why.BAD_NAME),
    }
    assert all(layers[name]["status"] == "ok" for name in IDS[:5])
    assert layers[IDS[15]]["parent_no"] is None
    assert layers["stranger.qcow2"]["status"] == "missing"
    assert snapshot.complete
    assert snapshot.summary["dangling_backing"] == 1


def test_header_fields_that_fit_no_column_do_not_stop_the_scan(fleet: Fleet) -> None:
    image = bytearray(build(Image({0: DATA})))
    for start, end in ((24, 32), (36, 40), (40, 48), (60, 64), (72, 96)):
        image[start:end] = b"\xff" * (end - start)
    fleet.put("us-east", {NAMES[0]: bytes(image)})
    fleet.scan()
    row = fleet.layers()[IDS[0]]
    assert (row["status"], row["virtual_size"], row["incompatible_features"]) == ("refused", None, (1 << 64) - 1)


def test_vanished_layers_and_heads_that_point_nowhere(fleet: Fleet) -> None:
    fleet.put("us-east", chain(6, NAMES))
    fleet.control.put_new(keys.head("gone"), head("gone", IDS[77]))
    fleet.control.put_new(keys.head("vm"), head("vm", IDS[5]))
    fleet.control.put_new(keys.head("spoilt"), b'{"disk_id": 1')
    fleet.control.put_new(keys.head("other"), head("someone", IDS[5]))
    fleet.control.put_new(keys.head("huge"), head("huge", IDS[5]).replace(b'_size": 0', b'_size": 1e99'))
    fleet.scan()
    fleet.stores["us-east"].delete(keys.layer(IDS[2]))
    fleet.scan()
    layers = fleet.layers()
    assert (layers[IDS[2]]["status"], layers[IDS[2]]["reason"]) == ("missing", "disappeared")
    assert (layers[IDS[77]]["status"], layers[IDS[77]]["reason"]) == ("missing", "never_seen")
    assert layers[IDS[3]]["parent_no"] is None
    heads = {row["disk_id"]: row for row in fleet.table("heads").to_pylist()}
    assert heads["vm"]["status"] == "ok"
    assert (heads["gone"]["status"], heads["gone"]["tip_no"]) == ("dangling", None)
    assert {heads[name]["status"] for name in ("spoilt", "other", "huge")} == {"refused"}
    fleet.put("us-east", {NAMES[2]: chain(3, NAMES)[NAMES[2]]})
    fleet.scan()
    back = fleet.layers()
    assert back[IDS[2]]["status"] == "ok"
    assert back[IDS[3]]["parent_no"] == back[IDS[2]]["layer_no"]


def test_the_same_id_in_two_regions(fleet: Fleet) -> None:
    files = chain(2, NAMES)
    fleet.put("us-east", files)
    fleet.scan()
    fleet.put("eu-west", {NAMES[0]: files[NAMES[0]]})
    fleet.scan()
    rows = [row for row in fleet.table("layers").to_pylist() if row["layer_id"] == IDS[0]]
    assert {(row["region"], row["status"], row["reason"]) for row in rows} == {
        ("us-east", "ok", None),
        ("eu-west", "refused", why.DUPLICATE_ID),
    }
    assert fleet.layers()[IDS[1]]["parent_no"] == min(row["layer_no"] for row in rows)
    fleet.stores["us-east"].delete(keys.layer(IDS[0]))
    fleet.scan()
    assert fleet.layers()[IDS[0]]["status"] == "ok"
    assert fleet.layers()[IDS[0]]["region"] == "eu-west"


def test_raw_bases_are_accepted_where_policy_lists_them(fleet: Fleet) -> None:
    child = {NAMES[0]: build(Image({0: DATA}, backing="debian.img", backing_format="raw"))}
    fleet.put("us-east", {"debian.img": b"x" * 1000, **child})
    fleet.scan()
    assert fleet.layers()[IDS[0]]["reason"] == why.BACKING_FORMAT_RAW
    assert fleet.layers()["debian.img"]["reason"] == why.BAD_NAME
    fleet.rules = ScanRules(raw_keys=frozenset({"layers/debian.img"}))
    fleet.scan()
    layers = fleet.layers()
    base = layers["debian.img"]
    assert (base["status"], base["version"], base["virtual_size"]) == ("ok", 0, 1024)
    assert (layers[IDS[0]]["status"], layers[IDS[0]]["parent_no"]) == ("ok", base["layer_no"])
    assert fleet.extents()["debian.img"] == [(0, 1024, ExtentKind.DATA, 0, 1000)]
    fleet.rules = ScanRules()
    fleet.scan()
    assert fleet.layers()[IDS[0]]["reason"] == why.BACKING_FORMAT_RAW


class ChangingSource:
    """The object is replaced between the listing and the read."""

    def read(self, key: str, start: int, length: int, etag: str) -> bytes:
        raise PreconditionFailed(f"{key}: changed")


class UnreachableSource:
    def read(self, key: str, start: int, length: int, etag: str) -> bytes:
        raise Transient(f"{key}: 503")


@pytest.mark.parametrize(("source", "reason"), [(ChangingSource(), why.CHANGED), (UnreachableSource(), why.UNREADABLE)])
def test_what_could_not_be_read_is_read_by_the_next_scan(fleet: Fleet, source: object, reason: str) -> None:
    fleet.put("us-east", chain(3, NAMES))
    fleet.sources["us-east"] = source  # type: ignore[assignment]
    fleet.scan()
    assert {row["reason"] for row in fleet.layers().values()} == {reason}
    fleet.sources.clear()
    fleet.scan()
    assert {row["status"] for row in fleet.layers().values()} == {"ok"}


def test_a_fault_in_the_reader_is_a_row(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.put("us-east", chain(3, NAMES))
    original = shard_scan.scan_layer

    def broken(item, *args):
        if IDS[1] in item.key:
            raise ZeroDivisionError
        return original(item, *args)

    monkeypatch.setattr(shard_scan, "scan_layer", broken)
    fleet.scan()
    assert fleet.layers()[IDS[1]]["reason"] == why.READER_ERROR
    assert fleet.layers()[IDS[0]]["status"] == "ok"


def test_a_listing_that_fails_keeps_the_regions_rows(fleet: Fleet) -> None:
    fleet.put("us-east", chain(5, NAMES))
    fleet.put("eu-west", {name: chain(10, NAMES)[name] for name in NAMES[5:10]})
    fleet.scan()
    fleet.stores["us-east"].delete(keys.layer(IDS[0]))
    fleet.stores["eu-west"] = FaultyStore(fleet.stores["eu-west"], Fault("list", "page", times=99))
    with pytest.raises(Transient):
        fleet.scan_region("eu-west")
    snapshot = fleet.publish(fleet.scan_region("us-east"))
    assert not snapshot.complete
    assert not snapshot.regions["eu-west"].complete
    assert snapshot.regions["eu-west"].objects == 5
    assert set(fleet.layers()) == set(IDS[:10])
    assert fleet.layers()[IDS[0]]["status"] == "missing"


def test_a_listing_that_shrinks_suddenly_is_believed_the_second_time(fleet: Fleet) -> None:
    fleet.put("us-east", chain(100, NAMES))
    fleet.scan()
    for name in IDS[40:100]:
        fleet.stores["us-east"].delete(keys.layer(name))
    first = fleet.scan()
    assert (first.complete, first.regions["us-east"].note[:14]) == (False, "listing_shrunk")
    assert len(fleet.layers()) == 100
    assert fleet.scan().complete
    assert len(fleet.layers()) == 40


def test_an_empty_listing_is_not_believed_at_once(fleet: Fleet) -> None:
    fleet.put("us-east", chain(3, NAMES))
    fleet.scan()
    fleet.stores["us-east"].objects.clear()
    assert not fleet.scan().complete
    assert len(fleet.layers()) == 3


def test_many_shards_give_the_same_rows(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{uuid.uuid4().hex}.qcow2" for _ in range(120)]
    fleet.put("us-east", chain(120, names))
    fleet.scan()
    whole = {name: (row["status"], row["extents"], row["backing_layer_id"]) for name, row in fleet.layers().items()}
    extents = fleet.extents()
    monkeypatch.setattr(shards, "SHARD_OBJECTS", 10)
    monkeypatch.setattr(shards, "READER_VERSION", 99)
    assert len(shards.plan_shards("us-east", fleet.stores["us-east"], fleet.snapshot(), "x")) == 12
    fleet.scan()
    again = {name: (row["status"], row["extents"], row["backing_layer_id"]) for name, row in fleet.layers().items()}
    assert again == whole
    assert fleet.extents() == extents


def test_shards_meet_without_gap_or_overlap() -> None:
    every = [shards.Shard("s", "r", number + 1, 7) for number in range(7)]
    assert every[0].low == "layers/"
    assert every[-1].high is None
    assert [a.high for a in every[:-1]] == [b.low for b in every[1:]]
    assert shards.shard_from_json(every[3].to_json()) == every[3]


def test_large_layers_get_files_of_their_own_and_all_stays_sorted(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "SPOOL_ROWS", 20)
    many = {n: DATA if n % 2 else ZERO for n in range(150)}
    fleet.put("us-east", {NAMES[n]: build(Image(many, virtual_size=1 << 20)) for n in range(3)})
    fleet.put("us-east", {NAMES[n]: build(Image({n: DATA})) for n in range(3, 6)})
    broken = bytearray(build(Image(many, virtual_size=1 << 20)))
    broken[-512:] = b""  # the last data cluster is gone: found only after most extents were written
    fleet.put("us-east", {NAMES[7]: bytes(broken)})
    fleet.scan()
    extents = fleet.extents()
    assert fleet.layers()[IDS[7]]["reason"] == why.CLUSTER_OUTSIDE
    assert [len(extents[name]) for name in IDS[:6]] == [150, 150, 150, 1, 1, 1]
    table = fleet.table("extents")
    order = list(zip(table["layer_no"].to_pylist(), table["start"].to_pylist(), strict=True))
    assert order == sorted(order)
    assert len(order) == 453


def test_small_extent_files_are_joined(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.inventory import extent_files

    monkeypatch.setattr(extent_files, "MAX_SMALL_FILES", 4)
    files = chain(40, NAMES)
    for n in range(8):
        fleet.put("us-east", {name: files[name] for name in NAMES[5 * n : 5 * n + 5]})
        snapshot = fleet.scan()
        assert len(snapshot.datasets["extents"]) <= 5
        assert sum(len(rows) for rows in fleet.extents().values()) == 15 * (n + 1)
    spans = [(ref.first_no, ref.last_no) for ref in snapshot.datasets["extents"]]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(spans))


def test_extents_of_dead_layers_are_dropped_in_time(fleet: Fleet) -> None:
    fleet.put("us-east", chain(40, NAMES))
    fleet.scan()
    for name in IDS[35:40]:
        fleet.stores["us-east"].delete(keys.layer(name))
    fleet.scan()
    assert len(fleet.table("extents")) == 120  # an eighth is dead: not worth it yet
    for name in IDS[30:35]:
        fleet.stores["us-east"].delete(keys.layer(name))
    fleet.scan()
    assert len(fleet.table("extents")) == 90


def test_publishing_twice_is_one_publication(fleet: Fleet) -> None:
    fleet.put("us-east", chain(5, NAMES))
    results = fleet.scan_region("us-east") + fleet.scan_region("eu-west")
    first = fleet.publish(results)
    assert fleet.publish(results).snapshot_id == first.snapshot_id
    assert not list(fleet.control.list(manifest.STAGING))


def test_two_scans_at_once_keep_one_number_per_layer(fleet: Fleet) -> None:
    fleet.put("us-east", chain(5, NAMES))
    one = fleet.scan_region("us-east") + fleet.scan_region("eu-west")
    two = fleet.scan_region("us-east") + fleet.scan_region("eu-west")
    fleet.publish(one)
    before = {name: row["layer_no"] for name, row in fleet.layers().items()}
    fleet.publish(two)
    assert {name: row["layer_no"] for name, row in fleet.layers().items()} == before
    assert len(fleet.table("layers")) == 5
    assert sum(len(rows) for rows in fleet.extents().values()) == len(fleet.table("extents")) == 15


def test_concurrent_publications_lose_nothing(fleet: Fleet) -> None:
    files = chain(20, NAMES)
    fleet.put("us-east", {name: files[name] for name in NAMES[:10]})
    fleet.put("eu-west", {name: files[name] for name in NAMES[10:20]})
    results = [fleet.scan_region(region) for region in fleet.regions]
    threads = [threading.Thread(target=fleet.publish, args=(result,)) for result in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(fleet.layers()) == set(IDS[:20])
    assert len({row["layer_no"] for row in fleet.layers().values()}) == 20


@pytest.mark.parametrize("how", ["lost", "not_applied"])
def test_a_pointer_write_without_an_answer_is_read_back(fleet: Fleet, how: str) -> None:
    fleet.put("us-east", chain(5, NAMES))
    fleet.scan()
    fleet.put("us-east", {NAMES[9]: build(Image({}))})
    results = [result for region in fleet.regions for result in fleet.scan_region(region)]
    inner = fleet.control
    fleet.control = FaultyStore(inner, Fault("put_if_match", how))
    snapshot = fleet.publish(results)
    fleet.control = inner
    assert fleet.snapshot() == snapshot
    assert IDS[9] in fleet.layers()


def test_an_unknown_outcome_deletes_nothing(fleet: Fleet) -> None:
    fleet.put("us-east", chain(5, NAMES))
    fleet.scan()
    results = [result for region in fleet.regions for result in fleet.scan_region(region)]
    before = set(fleet.control.objects)
    faulty = FaultyStore(fleet.control, Fault("put_if_match", "lost"))
    # the pointer is read once before the write; the read after it fails
    faulty.faults.append(Fault("get", "not_applied", nth=_gets_before_swing(fleet, results), times=99))
    with pytest.raises(OutcomeUnknown):
        publish.publish(faulty, results, fleet.regions, fleet.work)
    assert before <= set(fleet.control.objects)
    assert fleet.layers()


def _gets_before_swing(fleet: Fleet, results: list) -> int:
    """`get` calls of a publication up to the pointer's write, plus one: counted on a copy of the bucket."""
    from tests.fakes.store import MemoryStore

    copy = MemoryStore("us-east", "copy")
    copy.objects = dict(fleet.control.objects)
    counting = FaultyStore(copy)
    publish.publish(counting, results, fleet.regions, fleet.work / "dry")
    return counting.calls[: counting.calls.index("put_if_match")].count("get") + 1


def test_old_snapshots_go_and_what_is_shared_stays(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.inventory import expire

    monkeypatch.setattr(expire, "KEEP_SNAPSHOTS", 2)
    fleet.put("us-east", chain(5, NAMES))
    ids = []
    for day in range(12):
        fleet.control.clock_seconds = day * 86400.0
        fleet.control.put_new(f"{manifest.STAGING}scan-{day}/left-over.parquet", b"x")
        if day == 3:
            fleet.put("us-east", {NAMES[50]: build(Image({1: DATA}))})
        ids.append(fleet.scan().snapshot_id)
    found = {key.split("/")[1] for key in fleet.control.objects if key.endswith("snapshot.json")}
    assert found == set(ids[4:])  # 7 days are kept
    assert set(fleet.extents()) == {*IDS[:5], IDS[50]}
    old = [key for key in fleet.control.objects if ids[0] in key]
    assert [key.rsplit("/", 1)[1] for key in old] == ["extents-new-0.parquet"]
    assert f"{manifest.STAGING}scan-3/left-over.parquet" not in fleet.control.objects
    assert f"{manifest.STAGING}scan-4/left-over.parquet" in fleet.control.objects


def test_nothing_expires_while_a_kept_snapshot_is_unreadable(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.inventory import expire

    monkeypatch.setattr(expire, "KEEP_SNAPSHOTS", 1)
    fleet.put("us-east", chain(2, NAMES))
    ids = [fleet.scan().snapshot_id for _ in range(3)]
    fleet.control.clock_seconds = 10 * 86400.0
    key = manifest.snapshot_key(ids[1])
    fleet.control.objects[key] = dataclasses.replace(
        fleet.control.objects[key],
        body=b"{}",
        info=dataclasses.replace(fleet.control.objects[key].info, last_modified=fleet.control.now()),
    )
    fleet.scan()
    assert all(manifest.snapshot_key(name) in fleet.control.objects for name in ids)


def test_no_snapshot_yet(fleet: Fleet) -> None:
    assert manifest.current_snapshot(fleet.control) is None
    assert list(manifest.history(fleet.control, 5)) == []


def test_history_goes_back_through_the_parents(fleet: Fleet) -> None:
    fleet.put("us-east", chain(2, NAMES))
    ids = [fleet.scan().snapshot_id for _ in range(4)]
    assert [snapshot.snapshot_id for snapshot in manifest.history(fleet.control, 3)] == ids[:0:-1]


def test_a_staged_snapshot_shares_files_and_is_made_once(fleet: Fleet) -> None:
    fleet.put("us-east", chain(5, NAMES))
    first = fleet.scan()
    second = fleet.scan()
    cache = fleet.work / "cache"
    counting = FaultyStore(fleet.control)
    one = manifest.stage(counting, first, cache)
    fetched = counting.calls.count("get_range")
    two = manifest.stage(counting, second, cache)
    assert counting.calls.count("get_range") == fetched
    assert manifest.stage(counting, first, cache) == one
    name = next((one / "extents").iterdir()).name
    assert (one / "extents" / name).samefile(two / "extents" / name)


def test_staging_another_snapshot_removes_what_nobody_used_for_a_day(fleet: Fleet) -> None:
    fleet.put("us-east", chain(5, NAMES))
    cache = fleet.work / "cache"
    snapshots = [fleet.scan() for _ in range(5)]
    folders = [manifest.stage(fleet.control, snapshot, cache) for snapshot in snapshots[:4]]
    for folder in folders:
        os.utime(folder, (0, 0))
    manifest.stage(fleet.control, snapshots[1], cache)
    folders.append(manifest.stage(fleet.control, snapshots[4], cache))
    assert [folder.is_dir() for folder in folders] == [False, True, True, True, True]


def test_a_file_that_is_not_the_one_named_is_not_staged(fleet: Fleet) -> None:
    fleet.put("us-east", chain(5, NAMES))
    snapshot = fleet.scan()
    ref = snapshot.datasets["extents"][0]
    body = bytearray(fleet.control.objects[ref.key].body)
    body[20] ^= 1
    fleet.control.objects[ref.key] = dataclasses.replace(fleet.control.objects[ref.key], body=bytes(body))
    with pytest.raises(Exception, match="sha256"):
        manifest.stage(fleet.control, snapshot, fleet.work / "cache")
    assert not list((fleet.work / "cache" / "snapshots").glob("*"))


def test_a_scan_over_any_store_reads_by_ranges(fleet: Fleet) -> None:
    fleet.put("us-east", chain(5, NAMES))
    store = FaultyStore(fleet.stores["us-east"], Fault("get_range", "not_applied", times=2))
    fleet.sources["us-east"] = StoreSource(store)
    fleet.scan()
    assert {row["status"] for row in fleet.layers().values()} == {"ok"}
    assert store.calls.count("get_range") == 5 + 2


def test_a_full_work_directory_says_nothing_of_the_layers(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.put("us-east", chain(5, NAMES))
    fleet.scan()
    fleet.put("eu-west", chain(3, NAMES[100:]))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(parts.Spool, "keep", full)
    with pytest.raises(OSError, match="No space left"):
        fleet.scan()
    assert {row["status"] for row in fleet.layers().values()} == {"ok"}


def test_a_worker_that_only_scans_keeps_no_old_manifests(fleet: Fleet) -> None:
    files = fleet.work / "manifests" / "files"
    for number in range(6):
        fleet.put("us-east", {NAMES[number]: build(Image({0: DATA}))})
        for path in files.glob("*"):
            os.utime(path, (0, 0))  # nobody used it for a day
        fleet.scan_region("us-east")
        fleet.scan()
    assert len(list(files.iterdir())) <= 8


def receipt(action_id: str) -> bytes:
    action = {"action_id": action_id, "disk_id": "vm", "engine": "stream"}
    return json.dumps({"state": "done", "outcome": "failed", "action": action}).encode()


def test_a_record_that_the_store_denies_stops_no_publication(fleet: Fleet) -> None:
    """Archived by a lifecycle rule, or under a key that was taken away: read again once that is over."""
    fleet.put("us-east", chain(1, NAMES))
    for name in ("denied", "open"):
        fleet.control.put_new(keys.head(name), head(name, IDS[0]))
        fleet.control.put_new(keys.action(name), receipt(name))
    control = fleet.control

    class Denying(MemoryStore):
        def get(self, key: str) -> tuple[bytes, ObjectInfo]:
            if "denied" in key:
                raise Permanent(f"{key}: InvalidObjectState")
            return super().get(key)

    fleet.control = Denying("us-east", "control")
    fleet.control.objects, fleet.control.peers = control.objects, control.peers
    fleet.scan()
    assert {row["disk_id"]: row["reason"] for row in fleet.table("heads").to_pylist()} == {
        "denied": "unreadable",
        "open": None,
    }
    assert fleet.table("receipts")["action_id"].to_pylist() == ["open"]
    fleet.control = control
    fleet.scan()
    assert {row["status"] for row in fleet.table("heads").to_pylist()} == {"ok"}
    assert sorted(fleet.table("receipts")["action_id"].to_pylist()) == ["denied", "open"]
