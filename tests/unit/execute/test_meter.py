"""Bytes by region and direction, and progress with an estimate."""

import pytest

from tasks import clock
from tasks.execute.meter import Meter, MeteredStore, Progress
from tasks.stages.apply import progress_line
from tasks.store.base import CopySource
from tests.fakes.store import MemoryStore


def test_a_store_counts_what_passes() -> None:
    home, far = MemoryStore("us-east", "home"), MemoryStore("eu-west", "far")
    home.peers["far"] = far
    meter = Meter(100)
    stores = [MeteredStore(store, meter, {"home": "us-east", "far": "eu-west"}) for store in (home, far)]
    etag = stores[1].put_new("layers/x", b"x" * 6_000_000)
    stores[1].get_range("layers/x", 0, 1000, etag)
    upload = stores[0].create_multipart("layers/y")
    parts = [stores[0].copy_part("layers/y", upload, 1, CopySource("far", "layers/x", 0, 5 << 20, etag))]
    parts.append(stores[0].upload_part("layers/y", upload, 2, b"tail"))
    stores[0].complete_multipart("layers/y", upload, parts)
    cost = meter.cost()
    assert cost.read_bytes == {"eu-west": 1000}
    assert cost.write_bytes == {"eu-west": 6_000_000, "us-east": 4}
    assert cost.copy_bytes == {"eu-west": 5 << 20}
    assert cost.requests == 6


def test_progress_is_told_at_steps_and_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    told: list[Progress] = []
    meter = Meter(1000, told.append, every_seconds=2)
    meter.step("merge")
    meter.read("us-east", 100)
    assert len(told) == 1
    now[0] = 2.5
    meter.read("us-east", 150)
    assert [(p.step, p.done_bytes) for p in told] == [("merge", 0), ("merge", 250)]
    assert told[1].eta_seconds == pytest.approx(7.5)
    assert progress_line(told[1]) == "merge: 250 B of 1000 B, 7.5 s to go"
    assert progress_line(told[0]) == "merge: 0 B of 1000 B"
