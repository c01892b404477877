"""What is repeated, what is not, and that a failed page never shortens a listing."""

import pytest

from tasks import clock
from tasks.errors import OutcomeUnknown, PreconditionFailed, Transient
from tasks.store.retrying import RetryingStore
from tasks.store.upload import part_bytes, upload_stream
from tasks.units import MIB, TIB
from tests.fakes.store import Fault, FaultyStore, MemoryStore


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "sleep", lambda seconds: None)


def store(*faults: Fault) -> tuple[RetryingStore, FaultyStore]:
    memory = MemoryStore()
    for number in range(5):
        memory.put_new(f"layers/{number}", b"0123456789")
    inner = FaultyStore(memory, *faults)
    return RetryingStore(inner), inner


@pytest.mark.parametrize("method", ["info", "get", "delete"])
def test_reads_and_deletes_are_repeated(method: str) -> None:
    retrying, inner = store(Fault(method, "not_applied", times=3))
    getattr(retrying, method)("layers/1")
    assert inner.calls.count(method) == 4


def test_reads_give_up() -> None:
    retrying, inner = store(Fault("get_range", "not_applied", times=99))
    with pytest.raises(Transient):
        retrying.get_range("layers/1", 0, 1)
    assert inner.calls.count("get_range") == 5


@pytest.mark.parametrize(
    ("method", "args"),
    [("put_new", ("layers/new", b"x")), ("put_if_match", ("layers/1", b"x", '"781e5e245d69b566979b86e28d23f2c7"'))],
)
def test_conditional_writes_are_sent_once(method: str, args: tuple[object, ...]) -> None:
    retrying, inner = store(Fault(method, "lost"))
    with pytest.raises(Transient):
        getattr(retrying, method)(*args)
    assert inner.calls.count(method) == 1


def test_listing_goes_on_behind_a_failed_page() -> None:
    retrying, _ = store(Fault("list", "page"), Fault("list", "page", nth=2))
    assert [item.key for item in retrying.list("layers/")] == [f"layers/{number}" for number in range(5)]


def test_listing_that_keeps_failing_raises() -> None:
    memory = MemoryStore()
    memory.put_new("layers/1", b"x")
    inner = FaultyStore(memory)
    inner.list = lambda prefix, start_after="": (_ for _ in ()).throw(Transient("503"))  # type: ignore[method-assign]
    with pytest.raises(Transient):
        list(RetryingStore(inner).list("layers/"))


PIECES = [b"a" * (5 * MIB), b"b" * (5 * MIB), b"c"]
SIZE = 10 * MIB + 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault("create_multipart", "not_applied"),
        Fault("upload_part", "not_applied", times=2),
        Fault("upload_part", "lost", nth=2),
        Fault("complete_multipart", "lost"),
    ],
)
def test_upload_survives(fault: Fault) -> None:
    retrying, inner = store(fault)
    etag = upload_stream(retrying, "layers/new", PIECES, SIZE)
    assert inner.inner.get("layers/new")[0] == b"".join(PIECES)
    assert inner.inner.info("layers/new").etag == etag
    assert not inner.inner.uploads


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ([Fault("upload_part", "not_applied", times=99)], Transient),
        ([Fault("complete_multipart", "not_applied")], Transient),
        ([Fault("complete_multipart", "lost"), Fault("info", "not_applied", times=99)], OutcomeUnknown),
    ],
)
def test_failed_upload_leaves_nothing_visible_that_is_not_whole(faults: list[Fault], error: type[Exception]) -> None:
    retrying, inner = store(*faults)
    with pytest.raises(error):
        upload_stream(retrying, "layers/new", PIECES, SIZE)
    assert not inner.inner.uploads
    assert "layers/new" not in inner.inner.objects or inner.inner.get("layers/new")[0] == b"".join(PIECES)


def test_source_that_changed_while_it_was_sent() -> None:
    retrying, inner = store()
    with pytest.raises(Transient, match="changed while"):
        upload_stream(retrying, "layers/new", PIECES[:2], SIZE)
    assert "layers/new" not in inner.inner.objects


def test_upload_does_not_replace() -> None:
    retrying, inner = store()
    with pytest.raises(PreconditionFailed):
        upload_stream(retrying, "layers/1", PIECES, SIZE)
    assert inner.inner.get("layers/1")[0] == b"0123456789"


def test_part_sizes_fit_ten_thousand_parts() -> None:
    assert part_bytes(1) == 16 * MIB
    assert 10_000 * part_bytes(4 * TIB) >= 4 * TIB
    assert part_bytes(4 * TIB) % MIB == 0
