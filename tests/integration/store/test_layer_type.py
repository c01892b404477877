"""Layers are sent with a type: without one SeaweedFS compresses them, and a small range costs it a whole chunk."""

from typing import Any

import pytest

from tasks.settings import Fleet
from tasks.store import keys
from tasks.store.connect import LAYER_TYPE, make_client
from tasks.store.s3 import S3Store
from tasks.units import MIB

pytestmark = pytest.mark.s3


def test_every_write_of_a_layer_names_its_type(fleet: Fleet, stores: object) -> None:
    region = fleet.regions[0]
    client = make_client(region)
    sent: list[tuple[str, Any]] = []
    client.meta.events.register("before-send.s3", lambda request, **_: sent.append((request.url, request.headers)))
    store = S3Store(client, region=region.name, bucket=region.bucket, endpoint=region.endpoint)
    whole, parted = keys.layer("a" * 32), keys.layer("b" * 32)

    store.put_new(whole, b"x")
    upload = store.create_multipart(parted)
    part = store.upload_part(parted, upload, 1, bytes(5 * MIB))
    store.complete_multipart(parted, upload, [part])
    store.put_new(keys.head("disk"), b"{}")

    types = [(url.split("?")[0].rsplit("/", 1)[-1], headers.get("Content-Type", b"").decode()) for url, headers in sent]
    layer, parts = whole.rsplit("/", 1)[-1], parted.rsplit("/", 1)[-1]
    assert [kind for name, kind in types if name == layer] == [LAYER_TYPE]
    assert [kind for name, kind in types if name == parts][:2] == [LAYER_TYPE] * 2
    assert ("disk.json", LAYER_TYPE) not in types
    stored = [client.head_object(Bucket=region.bucket, Key=key)["ContentType"] for key in (whole, parted)]
    assert stored == [LAYER_TYPE] * 2
