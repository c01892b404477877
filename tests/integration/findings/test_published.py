"""The derived datasets of a snapshot in a real store: computed once, fetched by everybody else."""

import json
from pathlib import Path

import pytest

from tasks.analytics.derive import derive, is_derived
from tasks.analytics.published import fetch_derived, publish_derived, record_key
from tasks.errors import Permanent
from tasks.store.base import ObjectStore
from tests.unit.analytics.test_derive_again import chains, rows, write_manifest

pytestmark = pytest.mark.s3


@pytest.fixture
def control(stores: dict[str, ObjectStore]) -> ObjectStore:
    return stores["us-east"]


@pytest.fixture
def derived(tmp_path: Path) -> Path:
    write_manifest(chains(disks=2, length=3), tmp_path / "derived")
    derive(tmp_path / "derived")
    return tmp_path / "derived"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    write_manifest(chains(disks=2, length=3), tmp_path / "plain")
    return tmp_path / "plain"


def test_round_trip(control: ObjectStore, derived: Path, plain: Path) -> None:
    assert not fetch_derived(control, "s1", plain)
    assert publish_derived(control, "s1", derived)
    assert not publish_derived(control, "s1", derived)  # once is enough
    assert fetch_derived(control, "s1", plain)
    for dataset in ("shadow_layers", "steals"):
        assert rows(plain, dataset) == rows(derived, dataset)


def test_a_damaged_file_is_not_taken(control: ObjectStore, derived: Path, plain: Path) -> None:
    publish_derived(control, "s1", derived)
    listed = json.loads(control.get(record_key("s1"))[0])["files"]
    victim = listed[0]["key"]
    body, info = control.get(victim)
    control.put_if_match(victim, body[:-1] + b"x", info.etag)
    with pytest.raises(Permanent, match="is not the file that"):
        fetch_derived(control, "s1", plain)
    assert not is_derived(plain)
    assert not list(plain.glob(".derived-*"))


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"format": 1, "columns": 7}', b'{"format": 1, "files": 3}'])
def test_a_record_that_is_none_of_ours_is_not_taken(control: ObjectStore, plain: Path, body: bytes) -> None:
    control.put_new(record_key("s1"), body)
    assert not fetch_derived(control, "s1", plain)
    assert not is_derived(plain)


def test_another_versions_columns_are_not_taken(control: ObjectStore, derived: Path, plain: Path) -> None:
    publish_derived(control, "s1", derived)
    record, info = control.get(record_key("s1"))
    raw = json.loads(record)
    raw["columns"]["steals"] = ["upper_no"]
    control.put_if_match(record_key("s1"), json.dumps(raw).encode(), info.etag)
    assert not fetch_derived(control, "s1", plain)
