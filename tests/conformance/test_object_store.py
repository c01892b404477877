"""The contract of `tasks.store.base.ObjectStore`: the memory fake and the real server pass the same file."""

import datetime
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.errors import NotFound, PreconditionFailed
from tasks.store.base import CopySource, ObjectStore
from tasks.units import MIB
from tests.fakes.store import MemoryStore

THREADS = 8


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param == "memory":
        return MemoryStore()
    return request.getfixturevalue("stores")["us-east"]


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.s3)])
def pair(request: pytest.FixtureRequest) -> tuple[ObjectStore, ObjectStore]:
    """Two buckets of one service."""
    if request.param == "memory":
        first, second = MemoryStore(), MemoryStore("eu-west", "other")
        first.peers = second.peers = {"memory": first, "other": second}
        return first, second
    stores = request.getfixturevalue("stores")
    return stores["us-east"], stores["eu-west"]


def race(work: Callable[[int], str], threads: int = THREADS) -> list[str | Exception]:
    """Run in threads that start together; each one's answer or PreconditionFailed."""
    gate = threading.Barrier(threads)

    def run(number: int) -> str | Exception:
        gate.wait()
        try:
            return work(number)
        except PreconditionFailed as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def test_reads_back_what_was_put(store: ObjectStore) -> None:
    etag = store.put_new("layers/a", b"0123456789")
    body, info = store.get("layers/a")
    assert (body, info.etag, info.size, info.key) == (b"0123456789", etag, 10, "layers/a")
    assert store.info("layers/a") == info
    assert etag.startswith('"')
    assert abs(info.last_modified - store.now()) < datetime.timedelta(seconds=30)


@pytest.mark.parametrize(
    ("start", "length", "expected"), [(0, 4, b"0123"), (3, 4, b"3456"), (8, 50, b"89"), (2, 0, b"")]
)
def test_ranges(store: ObjectStore, start: int, length: int, expected: bytes) -> None:
    etag = store.put_new("layers/a", b"0123456789")
    assert store.get_range("layers/a", start, length) == expected
    assert store.get_range("layers/a", start, length, etag) == expected


def test_range_of_another_version_is_refused(store: ObjectStore) -> None:
    old = store.put_new("layers/a", b"old")
    store.put_if_match("layers/a", b"new", old)
    with pytest.raises(PreconditionFailed):
        store.get_range("layers/a", 0, 3, old)


def test_absent(store: ObjectStore) -> None:
    for call in (store.info, store.get, lambda key: store.get_range(key, 0, 1)):
        with pytest.raises(NotFound):
            call("layers/none")
    store.delete("layers/none")
    store.delete("layers/none", '"0123"')
    with pytest.raises(PreconditionFailed):
        store.put_if_match("layers/none", b"x", '"d41d8cd98f00b204e9800998ecf8427e"')
    with pytest.raises(NotFound):
        store.info("layers/none")


def test_put_new_does_not_replace(store: ObjectStore) -> None:
    store.put_new("layers/a", b"first")
    with pytest.raises(PreconditionFailed):
        store.put_new("layers/a", b"second")
    assert store.get("layers/a")[0] == b"first"


def test_put_if_match_replaces_that_version_only(store: ObjectStore) -> None:
    first = store.put_new("heads/a", b"1")
    second = store.put_if_match("heads/a", b"2", first)
    with pytest.raises(PreconditionFailed):
        store.put_if_match("heads/a", b"3", first)
    assert store.get("heads/a")[0] == b"2"
    assert store.put_if_match("heads/a", b"4", second) != second


def test_one_of_many_creates(store: ObjectStore) -> None:
    answers = race(lambda number: store.put_new("heads/race", str(number).encode()))
    winners = [number for number, answer in enumerate(answers) if isinstance(answer, str)]
    assert len(winners) == 1
    assert store.get("heads/race")[0] == str(winners[0]).encode()


def test_one_of_many_swaps(store: ObjectStore) -> None:
    etag = store.put_new("heads/race", b"start")
    answers = race(lambda number: store.put_if_match("heads/race", str(number).encode(), etag))
    winners = [number for number, answer in enumerate(answers) if isinstance(answer, str)]
    assert len(winners) == 1
    assert store.get("heads/race")[0] == str(winners[0]).encode()


def test_a_counter_loses_no_increment(store: ObjectStore) -> None:
    store.put_new("heads/counter", b"0")

    def add(_: int) -> str:
        for _try in range(1000):
            body, info = store.get("heads/counter")
            try:
                return store.put_if_match("heads/counter", str(int(body) + 1).encode(), info.etag)
            except PreconditionFailed:
                continue
        raise AssertionError("never won")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(30)))
    assert store.get("heads/counter")[0] == b"30"


def test_delete_of_one_version(store: ObjectStore) -> None:
    old = store.put_new("layers/a", b"1")
    new = store.put_if_match("layers/a", b"2", old)
    with pytest.raises(PreconditionFailed):
        store.delete("layers/a", old)
    store.delete("layers/a", new)
    with pytest.raises(NotFound):
        store.info("layers/a")


def test_list_is_complete_sorted_and_resumable(store: ObjectStore) -> None:
    keys = [f"layers/{number:04d}" for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put_new(key, key.encode()), [*keys, "heads/x", "layersish"]))
    assert [item.key for item in store.list("layers/")] == keys
    assert [item.key for item in store.list("layers/", keys[41])] == keys[42:]
    assert [item.key for item in store.list("layers/001")] == keys[10:20]
    assert list(store.list("none/")) == []
    assert {item.size for item in store.list("layers/")} == {11}


def test_upload_of_small_and_large_files(store: ObjectStore, tmp_path: Path) -> None:
    for name, size in (("empty", 0), ("small", 1000), ("large", 33 * MIB + 17)):
        path = tmp_path / name
        path.write_bytes(bytes(range(256)) * (size // 256) + b"t" * (size % 256))
        etag = store.upload_file(f"layers/{name}", path)
        assert store.info(f"layers/{name}").size == size
        assert store.info(f"layers/{name}").etag == etag
        assert store.get_range(f"layers/{name}", max(size - 100, 0), 100) == path.read_bytes()[-100:]
        with pytest.raises(PreconditionFailed):
            store.upload_file(f"layers/{name}", path)
    assert list(store.list_multipart("layers/")) == []


def test_multipart_of_sent_and_copied_parts(pair: tuple[ObjectStore, ObjectStore]) -> None:
    first, second = pair
    body = bytes(range(256)) * (6 * MIB // 256)
    etag = first.put_new("layers/source", body)
    upload_id = second.create_multipart("layers/target")
    assert [upload.upload_id for upload in second.list_multipart("layers/")] == [upload_id]
    parts = [
        second.copy_part("layers/target", upload_id, 2, CopySource(first.bucket, "layers/source", 7, 5 * MIB, etag)),
        second.upload_part("layers/target", upload_id, 1, b"h" * (5 * MIB)),
        second.upload_part("layers/target", upload_id, 3, b"lost"),
        second.upload_part("layers/target", upload_id, 3, b"tail"),
    ]
    new = second.complete_multipart("layers/target", upload_id, [parts[0], parts[1], parts[3]])
    assert second.info("layers/target").etag == new
    expected = b"h" * (5 * MIB) + body[7 : 7 + 5 * MIB] + b"tail"
    assert second.get("layers/target")[0] == expected
    assert list(second.list_multipart("layers/")) == []


def test_copy_of_another_version_is_refused(pair: tuple[ObjectStore, ObjectStore]) -> None:
    first, second = pair
    first.put_new("layers/source", b"x" * 1000)
    upload_id = second.create_multipart("layers/target")
    wrong = CopySource(first.bucket, "layers/source", 0, 1000, '"00000000000000000000000000000000"')
    with pytest.raises(PreconditionFailed):
        second.copy_part("layers/target", upload_id, 1, wrong)
    second.abort_multipart("layers/target", upload_id)


def test_multipart_does_not_replace_and_aborts(store: ObjectStore) -> None:
    store.put_new("layers/a", b"there")
    upload_id = store.create_multipart("layers/a")
    part = store.upload_part("layers/a", upload_id, 1, b"other")
    with pytest.raises(PreconditionFailed):
        store.complete_multipart("layers/a", upload_id, [part])
    assert store.get("layers/a")[0] == b"there"
    store.abort_multipart("layers/a", upload_id)
    store.abort_multipart("layers/a", upload_id)
    assert list(store.list_multipart("layers/")) == []
