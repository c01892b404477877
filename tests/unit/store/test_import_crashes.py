"""Import cut short at every single store operation: no head or the right head, what is visible is whole, and the next
run finishes without sending anything twice."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks import clock
from tasks.errors import Permanent, Refused, Transient
from tasks.settings import Fleet, parse_fleet
from tasks.stages import transfer
from tasks.store import keys, upload
from tests.fakes.store import MemoryStore
from tests.support.qcow2_bytes import DATA, Image, build

REGIONS = ("us-east", "eu-west")


class Killed(BaseException):
    """The process dies here."""


class Mortal:
    """A store that kills its user at the n-th operation, before or after it is applied."""

    def __init__(self, inner: MemoryStore, watch: "Watch") -> None:
        self.inner, self.watch = inner, watch
        self.region, self.bucket = inner.region, inner.bucket

    def __getattr__(self, name: str) -> Any:
        target = getattr(self.inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self.watch.run(name, lambda: target(*args, **kwargs))

        return call if callable(target) else target


class Watch:
    def __init__(self, at: int = 0, how: str = "") -> None:
        self.at, self.how, self.count, self.names = at, how, 0, []

    def run(self, name: str, call: Callable[[], Any]) -> Any:
        self.count += 1
        self.names.append(name)
        if self.count > self.at > 0 and self.how != "lost":
            raise Killed
        if self.count == self.at and self.how == "before":
            raise Killed
        done = call()
        if self.count == self.at:
            raise Transient("answer lost") if self.how == "lost" else Killed
        return done


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Fleet, dict[str, MemoryStore], Path]:
    """A fleet whose stores are in memory, and a chain of three layers of which one needs several parts."""
    stores = {name: MemoryStore(name, f"bucket-{name}") for name in REGIONS}
    sections = [{"name": name, "endpoint": "", "bucket": f"bucket-{name}"} for name in REGIONS]
    fleet = parse_fleet({"control_region": "us-east", "regions": sections}, "test")
    monkeypatch.setattr(clock, "sleep", lambda seconds: None)
    monkeypatch.setattr(transfer, "LAYERS_AT_ONCE", 1)
    monkeypatch.setattr(upload, "PARALLEL_PARTS", 1)
    monkeypatch.setattr(upload, "PART_BYTES", 64 << 10)
    monkeypatch.setattr(transfer, "part_bytes", lambda size: 64 << 10)
    folder = tmp_path / "in"
    folder.mkdir()
    for name, backing, clusters in (("base", None, 300), ("mid", "base.qcow2", 2), ("tip", "mid.qcow2", 3)):
        image = Image(dict.fromkeys(range(clusters), DATA), backing=backing, fill=clusters % 251)
        (folder / f"{name}.qcow2").write_bytes(build(image))
    return fleet, stores, folder


def run(
    world: tuple[Fleet, dict[str, MemoryStore], Path],
    monkeypatch: pytest.MonkeyPatch,
    watch: Watch,
    progress: transfer.Progress = transfer.silent,
) -> transfer.ImportResult:
    fleet, stores, folder = world
    mortal = {name: Mortal(store, watch) for name, store in stores.items()}
    monkeypatch.setattr(transfer, "open_stores", lambda fleet: mortal)
    monkeypatch.setattr(transfer, "control_store", lambda fleet: mortal["us-east"])
    where = {"mid.qcow2": "eu-west"}
    return transfer.import_disk(fleet, folder, "vm", "tip.qcow2", "us-east", layer_regions=where, progress=progress)


def check_whole(stores: dict[str, MemoryStore]) -> None:
    """Every visible layer has the bytes that its id stands for."""
    for store in stores.values():
        for key, stored in store.objects.items():
            if key.startswith(keys.LAYERS):
                assert keys.layer(hashlib.sha256(stored.body).hexdigest()[:32]) == key


def operations(world: tuple[Fleet, dict[str, MemoryStore], Path], monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    run(world, monkeypatch, watch)
    for store in world[1].values():
        store.objects.clear()
    return watch


def test_every_crash_point(world: tuple[Fleet, dict[str, MemoryStore], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _, stores, _ = world
    total = operations(world, monkeypatch).count
    assert total > 20
    for at in range(1, total + 1):
        for how in ("before", "after"):
            for store in stores.values():
                store.objects.clear()
                store.uploads.clear()
            with pytest.raises(Killed):
                run(world, monkeypatch, Watch(at, how))
            check_whole(stores)
            had_head = keys.head("vm") in stores["us-east"].objects
            present = {key for store in stores.values() for key in store.objects if key.startswith(keys.LAYERS)}
            if had_head:
                assert len(present) == 3
            done = run(world, monkeypatch, Watch())
            assert done.created is not had_head
            assert {layer.layer_id for layer in done.layers if layer.reused} == {key[7:39] for key in present}
            check_whole(stores)


def test_every_lost_answer(world: tuple[Fleet, dict[str, MemoryStore], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer is lost, the process lives: either it is done, or a second run is all that is needed."""
    _, stores, _ = world
    names = operations(world, monkeypatch).names
    survived = 0
    for at in range(1, len(names) + 1):
        for store in stores.values():
            store.objects.clear()
        try:
            run(world, monkeypatch, Watch(at, "lost"))
            survived += 1
        except Transient:
            check_whole(stores)
            run(world, monkeypatch, Watch())
        assert keys.head("vm") in stores["us-east"].objects
        assert not any(store.uploads for store in stores.values()) or names[at - 1] == "create_multipart"
        for store in stores.values():
            store.uploads.clear()
        check_whole(stores)
    assert survived >= 2  # the completion of an upload and the head's creation at least


def test_source_that_changes_while_it_is_sent(
    world: tuple[Fleet, dict[str, MemoryStore], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, stores, folder = world
    path = folder / "base.qcow2"

    def change(phase: str, done: int, total: int) -> None:
        if phase == "hash" and done == total:
            body = bytearray(path.read_bytes())
            body[-1] ^= 1
            path.write_bytes(bytes(body))

    with pytest.raises(Refused) as refused:
        run(world, monkeypatch, Watch(), change)
    assert refused.value.reason == "file_changed"
    assert keys.head("vm") not in stores["us-east"].objects
    assert not any(store.uploads for store in stores.values())
    check_whole(stores)


def test_store_that_keeps_other_bytes_is_found_out(
    world: tuple[Fleet, dict[str, MemoryStore], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, stores, _ = world
    honest = stores["eu-west"].put_new
    monkeypatch.setattr(stores["eu-west"], "put_new", lambda key, body: honest(key, body[:-1] + b"\0"))
    with pytest.raises(Permanent, match=r"not the bytes of .*mid\.qcow2"):
        run(world, monkeypatch, Watch())
    assert keys.head("vm") not in stores["us-east"].objects


@pytest.mark.parametrize("how", ["marked", "deleted"])
def test_upload_that_outlives_the_grace_writes_no_head(
    world: tuple[Fleet, dict[str, MemoryStore], Path], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Until a head names them, the first layers of a long import look like leftovers: retirement may be at them."""
    _, stores, _ = world
    home = stores["us-east"]

    def retire(phase: str, done: int, total: int) -> None:
        if phase == "verify" and done == total:
            victim = next(key for key in home.objects if key.startswith(keys.LAYERS))
            if how == "deleted":
                del home.objects[victim]
            else:
                home.put_new(keys.tombstone(victim[7:39]), b"{}")

    with pytest.raises(Refused) as refused:
        run(world, monkeypatch, Watch(), retire)
    assert refused.value.reason == "layer_retiring"
    assert keys.head("vm") not in home.objects
    done = run(world, monkeypatch, Watch())
    assert done.created
    for layer in done.layers:
        assert keys.layer(layer.layer_id) in stores[layer.region].objects
        assert keys.tombstone(layer.layer_id) not in home.objects
