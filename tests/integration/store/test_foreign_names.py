"""Objects with names that are none of ours must not stop the listing, or the scan, of all others."""

import itertools
import uuid

import pytest

from tasks.settings import Fleet
from tasks.stages import inventory
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.connect import make_client
from tasks.store.retrying import RetryingStore
from tasks.store.s3 import S3Store
from tests.support.qcow2_bytes import DATA, Image, build

pytestmark = pytest.mark.s3
LAYER = f"{uuid.uuid4().hex}.qcow2"
FOREIGN = [
    LAYER.removesuffix(".qcow2") + "/notes",  # in S3's order behind LAYER, in that of a store which walks folders not
    LAYER.removesuffix(".qcow2") + "-copy",
    "a\x01b",
    "b\nb",
    "c b+c%20d&<>'\"",
    "\u00e9",
    "\uffee",
    "\U0001f600",
    "folder/",
    "x" * 250,
    "empty.qcow2",
]


@pytest.fixture
def names(stores: dict[str, ObjectStore]) -> set[str]:
    stores["us-east"].put_new(keys.LAYERS + LAYER, build(Image({0: DATA})))
    for name in FOREIGN:
        stores["us-east"].put_new(keys.LAYERS + name, b"")
    return {keys.LAYERS + name for name in (LAYER, *FOREIGN)}


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_a_listing_is_complete(fleet: Fleet, names: set[str], page: int) -> None:
    region = fleet.region("us-east")
    pages = S3Store(make_client(region), region=region.name, bucket=region.bucket, endpoint=region.endpoint, page=page)
    found = [item.key for item in pages.list(keys.LAYERS)]
    assert set(found) == names, (names - set(found), found)
    for number in range(len(found)):  # from any place on, as after a page that failed
        rest = itertools.islice(RetryingStore(pages).list(keys.LAYERS, found[number]), len(found))
        assert [item.key for item in rest] == found[number + 1 :]


def test_a_scan_goes_on(fleet: Fleet, names: set[str]) -> None:
    result = inventory.run_inventory(fleet)
    assert result["complete"]
    assert (result["layers"], result["refused"]) == (len(names) - 1, len(names) - 2)  # a folder's mark is no layer
