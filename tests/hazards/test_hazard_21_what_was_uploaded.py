"""Hazard 21: what is in the store need not be what was proved. Sums are compared, metadata is read back, first."""

from pathlib import Path

import pytest

from tasks.errors import Permanent
from tasks.execute import upload
from tasks.settings import Fleet
from tasks.stages import apply
from tasks.store.heads import HeadStore
from tasks.store.retrying import RetryingStore
from tests.support.chains import LayerSpec, build
from tests.support.hazard import ENGINES, MIB
from tests.support.merges import Stores, layer_keys, merge_action, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


class SpoilingStore(RetryingStore):
    """Stores other bytes than it was given, and says what it was given; `at`: where a bit is flipped."""

    at = 3 * 65536 + 5  # in the L1 table

    def put_new(self, key: str, body: bytes) -> str:
        return super().put_new(key, self._flip(body) if key.startswith("layers/") else body)

    def _flip(self, body: bytes) -> bytes:
        return body[: self.at] + bytes([body[self.at] ^ 1]) + body[self.at + 1 :]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_spoilt_object_is_not_published(fleet: Fleet, stores: Stores, tmp_path: Path, engine: str) -> None:
    chain = build(tmp_path / "c", [LayerSpec(8 * MIB, writes=(("write", n * MIB, MIB, n + 1),)) for n in range(3)])
    refs = publish_chain(fleet, stores, chain, "d1")
    spoiling: Stores = {**stores, "eu-west": SpoilingStore(stores["eu-west"].inner)}  # type: ignore[attr-defined]
    action = merge_action(refs, "d1", engine, 0, 1, home="eu-west")  # type: ignore[arg-type]
    with pytest.raises(Permanent):
        apply.apply_merge(fleet, action, "t", stores=spoiling)
    assert HeadStore(stores["us-east"]).read("d1").head.tip == chain.tip
    assert layer_keys(stores) == set(chain.layers)


def test_a_spoilt_answer_alone_is_found_by_reading_back(
    fleet: Fleet, stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store whose sums say nothing (encrypted with keys of its own)."""
    monkeypatch.setattr(upload, "_check_sum", lambda *_: None)
    test_a_spoilt_object_is_not_published(fleet, stores, tmp_path, "stream")
