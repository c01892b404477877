"""The ETag of the listing is the one that a read is conditional on, however the object was made."""

import uuid
from pathlib import Path

import pytest

from tasks.inventory.fetch import ObstoreSource
from tasks.settings import Fleet
from tasks.stages import inventory
from tasks.store import keys
from tasks.store.base import CopySource, ObjectStore
from tasks.units import MIB
from tests.support.qcow2_bytes import DATA, Image, build

pytestmark = pytest.mark.s3

BODY = build(Image(dict.fromkeys(range(100), DATA), virtual_size=1 << 26, cluster_bits=16))  # 7 MiB


def put_whole(store: ObjectStore, key: str, folder: Path) -> None:
    store.put_new(key, BODY)


def put_by_parts(store: ObjectStore, key: str, folder: Path) -> None:
    upload = store.create_multipart(key)
    parts = [store.upload_part(key, upload, 1, BODY[: 5 * MIB]), store.upload_part(key, upload, 2, BODY[5 * MIB :])]
    store.complete_multipart(key, upload, parts)


def put_by_copies(store: ObjectStore, key: str, folder: Path) -> None:
    source = f"sources/{uuid.uuid4().hex}"
    etag = store.put_new(source, BODY)
    upload = store.create_multipart(key)
    places = [(0, 5 * MIB), (5 * MIB, len(BODY) - 5 * MIB)]
    parts = [
        store.copy_part(key, upload, number, CopySource(store.bucket, source, start, length, etag))
        for number, (start, length) in enumerate(places, 1)
    ]
    store.complete_multipart(key, upload, parts)


def put_one_copy(store: ObjectStore, key: str, folder: Path) -> None:
    source = f"sources/{uuid.uuid4().hex}"
    etag = store.put_new(source, BODY)
    upload = store.create_multipart(key)
    part = store.copy_part(key, upload, 1, CopySource(store.bucket, source, 0, len(BODY), etag))
    store.complete_multipart(key, upload, [part])


def put_file(store: ObjectStore, key: str, folder: Path) -> None:
    file = folder / "layer"
    file.write_bytes(BODY)
    store.upload_file(key, file)


@pytest.mark.parametrize("put", [put_whole, put_by_parts, put_by_copies, put_one_copy, put_file])
def test_a_layer_is_readable_however_it_was_made(
    fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path, put: object
) -> None:
    layer = uuid.uuid4().hex
    put(stores["eu-west"], keys.layer(layer), tmp_path)  # type: ignore[operator]
    listed = next(iter(stores["eu-west"].list(keys.LAYERS)))
    assert stores["eu-west"].info(listed.key).etag == listed.etag
    source = ObstoreSource(fleet.region("eu-west"))
    assert source.read(listed.key, 0, len(BODY), listed.etag) == BODY
    result = inventory.run_inventory(fleet)
    assert (result["layers"], result["refused"]) == (1, 0)
