"""Hazard 21: what is in the store need not be what was proved. Sums are compared, metadata is read back, first."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.errors import Permanent
from tasks.execute import upload
from tasks.settings import Fleet
from tasks.stages import apply
from tasks.store.base import ObjectInfo, ObjectStore, Part
from tasks.store.heads import HeadStore
from tasks.store.retrying import RetryingStore
from tests.support.chains import LayerSpec, build, guest_sha256
from tests.support.hazard import ENGINES, MIB
from tests.support.merges import Stores, disk_sha256, layer_keys, merge_action, publish_chain

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


class EncryptingStore(RetryingStore):
    """As AWS with SSE-KMS: the ETag of what was sent in one piece has 32 hex digits, and is no MD5."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.real: dict[str, str] = {}  # by what is shown
        self.shown: dict[str, str] = {}  # by key

    def _hide(self, etag: str) -> str:
        shown = f'"{secrets.token_hex(16)}"'
        self.real[shown] = etag
        return shown

    def put_new(self, key: str, body: bytes) -> str:
        self.shown[key] = self._hide(super().put_new(key, body))
        return self.shown[key]

    def info(self, key: str) -> ObjectInfo:
        return replace(super().info(key), etag=self.shown.get(key) or super().info(key).etag)

    def get_range(self, key: str, start: int, length: int, if_match: str | None = None) -> bytes:
        return super().get_range(key, start, length, self.real.get(if_match or "", if_match))

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        part = super().upload_part(key, upload_id, number, body)
        return replace(part, etag=self._hide(part.etag))

    def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> str:
        real = [replace(part, etag=self.real.get(part.etag, part.etag)) for part in parts]
        return super().complete_multipart(key, upload_id, real)


class SpoilingParts(EncryptingStore):
    """And what it stores of a part is not what it was given."""

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        return super().upload_part(key, upload_id, number, body[:-1] + bytes([body[-1] ^ 1]))


@pytest.mark.parametrize("size", [8, 64], ids=["one piece", "parts"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_store_that_encrypts_is_published_to(
    fleet: Fleet, stores: Stores, tmp_path: Path, engine: str, size: int
) -> None:
    writes = [("write", n * size // 4 * MIB, size // 4 * MIB, n + 1) for n in range(3)]
    chain = build(tmp_path / "c", [LayerSpec(size * MIB, writes=(write,)) for write in writes])  # type: ignore[arg-type]
    refs = publish_chain(fleet, stores, chain, "d1")
    encrypting: Stores = {**stores, "eu-west": EncryptingStore(stores["eu-west"].inner)}  # type: ignore[attr-defined]
    action = merge_action(refs, "d1", engine, 0, 1, home="eu-west")  # type: ignore[arg-type]
    receipt = apply.apply_merge(fleet, action, "t", stores=encrypting)
    assert receipt.outcome == "published", receipt.reason
    assert disk_sha256(fleet, stores, "d1", tmp_path / "after") == guest_sha256(chain.path(chain.tip))


def test_a_part_that_an_encrypting_store_spoilt_is_found(fleet: Fleet, stores: Stores, tmp_path: Path) -> None:
    specs = [LayerSpec(64 * MIB, writes=(("write", n * 16 * MIB, 16 * MIB, n + 1),)) for n in range(3)]
    chain = build(tmp_path / "c", specs)
    refs = publish_chain(fleet, stores, chain, "d1")
    spoiling: Stores = {**stores, "eu-west": SpoilingParts(stores["eu-west"].inner)}  # type: ignore[attr-defined]
    action = merge_action(refs, "d1", "stream", 0, 1, home="eu-west")
    with pytest.raises(Permanent, match="not those that were sent"):
        apply.apply_merge(fleet, action, "t", stores=spoiling)
    assert HeadStore(stores["us-east"]).read("d1").head.tip == chain.tip
    assert layer_keys(stores) == set(chain.layers)


def test_a_spoilt_answer_alone_is_found_by_reading_back(
    fleet: Fleet, stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that also gives back what it was given, until the metadata is read."""
    monkeypatch.setattr(upload, "_verify_sent", lambda *_: None)
    test_a_spoilt_object_is_not_published(fleet, stores, tmp_path, "stream")
