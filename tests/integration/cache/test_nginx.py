"""The rendered configuration on a real nginx before the real object store."""

import contextlib
import os
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.cache.regional import RegionalCache, SliceRef
from tasks.errors import PreconditionFailed
from tasks.store import keys
from tasks.units import MIB, SLICE_BYTES
from tests.support.cache_server import HTTP, put_layer, running_cache, running_router, wait_until

pytestmark = pytest.mark.s3


@pytest.mark.parametrize("region", ["us-east", "eu-west", "ap-south"])
def test_layers_of_every_region_are_served_under_one_base_url(cache, stores, region):
    body = os.urandom(3 * MIB + 5)
    layer = put_layer(stores, region, body)
    answer = cache.get(f"/layers/{layer}.qcow2", SLICE_BYTES - 3, SLICE_BYTES + 2)
    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes {SLICE_BYTES - 3}-{SLICE_BYTES + 2}/{len(body)}"
    assert answer.data == body[SLICE_BYTES - 3 : SLICE_BYTES + 3]
    assert answer.headers["X-Chainwright-Region"] == region


def test_a_slice_is_fetched_once_whichever_url_asks(cache, stores):
    layer = put_layer(stores, "eu-west", os.urandom(3 * MIB))
    assert cache.get(f"/eu-west/layers/{layer}.qcow2", 0, 0).headers["X-Cache"] == "MISS"
    assert cache.get(f"/layers/{layer}.qcow2", 100, 200).headers["X-Cache"] == "HIT"
    assert cache.get(f"/cached/layers/{layer}.qcow2", 100, 200).headers["X-Cache"] == "HIT"
    assert cache.upstream_requests() == 1


def test_the_cached_form_never_asks_a_store(cache, stores):
    layer = put_layer(stores, "eu-west", os.urandom(3 * MIB))
    assert cache.get(f"/cached/layers/{layer}.qcow2", 0, 0).status == 412
    assert cache.upstream_requests() == 0


def test_a_whole_layer_is_put_together_from_its_slices(cache, stores):
    body = os.urandom(5 * MIB + 17)
    layer = put_layer(stores, "ap-south", body)
    assert HTTP.request("GET", f"{cache.url}/layers/{layer}.qcow2").data == body
    main, slices = [[line for line in cache.log() if line["main"] == flag] for flag in ("1", "")]
    assert [int(line["sent"]) for line in main] == [len(body)]
    assert [line["slice"] for line in slices] == ["bytes=2097152-4194303", "bytes=4194304-6291455"]


def test_concurrent_readers_of_a_missing_slice_cost_one_request(cache, stores):
    body = os.urandom(2 * MIB)
    layer = put_layer(stores, "ap-south", body)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: cache.get(f"/layers/{layer}.qcow2", n, n + 9), range(16)))
    assert [answer.data for answer in answers] == [body[n : n + 10] for n in range(16)]
    assert cache.upstream_requests() == 1


def test_an_unknown_layer_is_a_clean_404_and_found_once_it_exists(cache, stores):
    layer = secrets.token_hex(16)
    answer = cache.get(f"/layers/{layer}.qcow2", 0, 9)
    assert (answer.status, answer.data.count(b"\n")) == (404, 1)
    stores["ap-south"].put_new(keys.layer(layer), b"x" * 100)
    wait_until(lambda: cache.get(f"/layers/{layer}.qcow2", 0, 9).status == 206, 10)


@pytest.mark.parametrize(
    "path",
    [
        "/heads/disk.json",
        "/layers/../heads/disk.json",
        "/layers/%2e%2e/heads/disk.json",
        "/us-east/heads/disk.json",
        "/layers/" + "0" * 31 + ".qcow2",
        "/layers/" + "0" * 32,
        "/layers/" + "0" * 32 + ".qcow2/x",
        "/mars/layers/" + "0" * 32 + ".qcow2",
        "/where",
    ],
)
def test_nothing_but_layers_can_be_reached(cache, stores, path):
    _put_once(stores["us-east"], "heads/disk.json")
    assert cache.get(path, 0, 0).status in {400, 404}


def _put_once(store, key: str) -> None:
    with contextlib.suppress(PreconditionFailed):
        store.put_new(key, b"{}")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_only_reading_is_allowed(cache, stores, method):
    layer = put_layer(stores, "us-east", b"x" * 100)
    assert HTTP.request(method, f"{cache.url}/layers/{layer}.qcow2").status == 405


@pytest.mark.parametrize(
    "value",
    [
        "bytes=0-1,5-6",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(300)),
        "bytes=5-1x",
        "bytes=-",
        "bytes=9999999999999999-",
        "bytes=200-300",
        "octets=0-1",
        "bytes=0 - 1",
    ],
)
def test_hostile_ranges_are_refused(cache, stores, value):
    layer = put_layer(stores, "us-east", b"x" * 100)
    answer = HTTP.request("GET", f"{cache.url}/layers/{layer}.qcow2", headers={"Range": value})
    assert answer.status == 416
    assert len(answer.data) < 1000
    assert cache.get(f"/layers/{layer}.qcow2", 0, 9).data == b"x" * 10


def test_the_log_names_disk_client_region_and_bytes(cache, stores):
    layer = put_layer(stores, "eu-west", os.urandom(1 * MIB))
    who = {"X_Chainwright_Disk": "disk-1", "X_Chainwright_Client": "guest"}
    for _ in range(2):
        cache.get(f"/layers/{layer}.qcow2", 10, 19, **who)
    cold, warm = cache.log()
    assert (cold["layer"], cold["layer_region"], cold["range"]) == (layer, "eu-west", "bytes=10-19")
    assert (cold["disk"], cold["client"], cold["sent"]) == ("disk-1", "guest", "10")
    assert (cold["cache"], warm["cache"], warm["upstream_bytes"]) == ("MISS", "HIT", "")
    assert int(cold["upstream_bytes"]) > 1 * MIB


def test_what_a_reader_says_of_itself_cannot_break_the_log(cache, stores):
    layer = put_layer(stores, "us-east", b"x" * 100)
    cache.get(f"/layers/{layer}.qcow2", 0, 9, X_Chainwright_Disk='a","status":1,"x":"', X_Chainwright_Client="\x7f")
    (line,) = cache.log()
    assert (line["disk"], line["client"], line["status"]) == ("", "", "206")


def test_the_cache_stays_within_its_bound_on_disk(fleet, stores):
    with running_cache(fleet, "us-east", cache_bytes=8 * MIB) as cache:
        layer = put_layer(stores, "us-east", os.urandom(24 * MIB))
        for number in range(12):
            assert cache.get(f"/layers/{layer}.qcow2", number * SLICE_BYTES, number * SLICE_BYTES).status == 206
        wait_until(lambda: cache.disk_bytes() <= 10 * MIB)


def test_a_router_gives_every_slice_one_node(fleet, stores, tmp_path):
    body = os.urandom(21 * MIB)
    layer = put_layer(stores, "eu-west", body)
    with (
        running_cache(fleet, "us-east") as one,
        running_cache(fleet, "us-east") as two,
        running_router("us-east", [one.site.listen, two.site.listen]) as url,
    ):
        for path in (f"/layers/{layer}.qcow2", f"/eu-west/layers/{layer}.qcow2", f"/cached/layers/{layer}.qcow2"):
            assert HTTP.request("GET", f"{url}{path}").data == body
            answer = HTTP.request(
                "GET", f"{url}{path}", headers={"Range": f"bytes={SLICE_BYTES - 5}-{SLICE_BYTES + 4}"}
            )
            assert answer.data == body[SLICE_BYTES - 5 : SLICE_BYTES + 5]
        assert one.upstream_requests() + two.upstream_requests() == 11
        assert min(one.upstream_requests(), two.upstream_requests()) > 0
        one.stop()
        assert HTTP.request("GET", f"{url}/eu-west/layers/{layer}.qcow2").data == body


def test_a_router_hands_a_part_of_a_slice_on_as_it_is(fleet, stores):
    body = os.urandom(9 * MIB + 7)
    layer = put_layer(stores, "eu-west", body)
    with (
        running_cache(fleet, "us-east") as one,
        running_cache(fleet, "us-east") as two,
        running_router("us-east", [one.site.listen, two.site.listen]) as url,
    ):
        cache = RegionalCache(url, "guest")
        slices = [SliceRef(layer, "eu-west", number, len(body)) for number in range(5)]
        assert [cache.fetch(each) for each in slices] == [False] * 5
        assert all(cache.has(each) for each in slices)
        for each in slices:
            start = each.last_byte - 99
            assert cache.read(layer, "", start, 100, cached_only=True) == body[start : start + 100]
        sent = sum(int(line["sent"]) for node in (one, two) for line in node.log())
        assert sent == 5 * (1 + 1 + 100)
        assert cache.read(layer, "eu-west", 0, len(body)) == body
        assert one.upstream_requests() + two.upstream_requests() == 5


@pytest.mark.parametrize("value", ["bytes=0-1,5-6", "bytes=x", "bytes=1-2x", "lines=1-2"])
def test_a_router_refuses_hostile_ranges_itself(value):
    with running_router("us-east", ["127.0.0.1:9"]) as url:
        path = f"{url}/eu-west/layers/{secrets.token_hex(16)}.qcow2"
        assert HTTP.request("GET", path, headers={"Range": value}).status == 416
