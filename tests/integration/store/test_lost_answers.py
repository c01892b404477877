"""Lost requests and lost answers between boto3 and the real server: head writes and uploads settle right."""

import secrets
from pathlib import Path

import pytest

from tasks.chain.head import Head
from tasks.embedded.s3 import S3Server
from tasks.errors import NotFound, OutcomeUnknown, Transient
from tasks.settings import Fleet, Region
from tasks.stages.transfer import import_disk
from tasks.store.base import ObjectStore
from tasks.store.connect import open_store
from tasks.store.heads import HeadStore
from tasks.store.upload import upload_file
from tasks.units import MIB
from tests.fakes.lossy_proxy import Script, proxy
from tests.support.qcow2_bytes import DATA, Image, build

pytestmark = pytest.mark.s3
OLD, NEW = "0" * 32, "1" * 32


@pytest.fixture
def region(fleet: Fleet) -> Region:
    return fleet.region("us-east")


def through(region: Region, url: str) -> ObjectStore:
    return open_store(region.model_copy(update={"endpoint": url}))


def put_of_heads(first_line: str) -> bool:
    return first_line.startswith("PUT ") and "/heads/" in first_line


@pytest.mark.parametrize("fate", ["lose_request", "lose_answer", "half_answer", "busy", "conflict"])
@pytest.mark.parametrize("times", [1, 3])
def test_publish(s3_server: S3Server, region: Region, fate: str, times: int) -> None:
    real = HeadStore(open_store(region))
    real.create(Head("vm", OLD, "disk", "us-east"))
    held = real.acquire_lease("vm", "act", "a1", 60)
    script = Script(put_of_heads, [fate] * times)
    with proxy(s3_server.port, script) as url:
        done = HeadStore(through(region, url)).publish(held, NEW)
    assert real.read("vm") == done
    assert (done.head.tip, done.head.generation) == (NEW, 3)
    sent = sum(map(put_of_heads, script.seen))
    assert sent == (
        1 if fate in {"lose_answer", "half_answer"} else times + 1
    )  # an applied write is found, not sent again


def test_a_conflict_that_nobody_won_creates_the_head(s3_server: S3Server, region: Region) -> None:
    with proxy(s3_server.port, Script(put_of_heads, ["conflict"])) as url:
        done = HeadStore(through(region, url)).create(Head("vm", OLD, "disk", "us-east"))
    assert HeadStore(open_store(region)).read("vm") == done


def test_publish_that_nobody_can_judge_is_unknown(s3_server: S3Server, region: Region) -> None:
    real = HeadStore(open_store(region))
    real.create(Head("vm", OLD, "disk", "us-east"))
    held = real.acquire_lease("vm", "act", "a1", 60)
    script = Script(lambda line: "/heads/" in line, ["lose_answer", *["lose_request"] * 20])
    with proxy(s3_server.port, script) as url, pytest.raises(OutcomeUnknown):
        HeadStore(through(region, url)).publish(held, NEW)
    assert real.read("vm").head.tip == NEW  # it was applied: had anything been deleted, the disk would be lost


@pytest.mark.parametrize("fate", ["lose_request", "lose_answer", "half_answer"])
def test_vm_start(s3_server: S3Server, region: Region, fate: str) -> None:
    real = HeadStore(open_store(region))
    real.create(Head("vm", OLD, "disk", "us-east"))
    with proxy(s3_server.port, Script(put_of_heads, [fate, fate])) as url:
        started = HeadStore(through(region, url)).start("vm", "host-1")
    assert real.read("vm") == started
    assert started.head.generation == 2


@pytest.mark.parametrize(
    ("what", "fates"),
    [
        ("partNumber=", ["lose_answer", "lose_request"]),
        ("POST", ["pass", "lose_answer"]),  # create passes, the completion's answer is lost
        ("?uploads", ["lose_answer"]),
    ],
)
def test_upload_of_a_layer(s3_server: S3Server, region: Region, tmp_path: Path, what: str, fates: list[str]) -> None:
    path = tmp_path / "layer"
    path.write_bytes(secrets.token_bytes(20 * MIB))
    real = open_store(region)
    with proxy(s3_server.port, Script(lambda line: what in line, fates)) as url:
        etag = upload_file(through(region, url), "layers/a", path)
    assert real.info("layers/a").etag == etag
    assert real.get("layers/a")[0] == path.read_bytes()


def test_upload_whose_completion_never_arrives_leaves_nothing(
    s3_server: S3Server, region: Region, tmp_path: Path
) -> None:
    path = tmp_path / "layer"
    path.write_bytes(secrets.token_bytes(20 * MIB))
    script = Script(lambda line: line.startswith("POST ") and "uploads" not in line, ["lose_request"])
    with proxy(s3_server.port, script) as url, pytest.raises(Transient, match="not completed"):
        upload_file(through(region, url), "layers/a", path)
    real = open_store(region)
    with pytest.raises(NotFound):
        real.info("layers/a")
    assert list(real.list_multipart("layers/")) == []


@pytest.mark.parametrize("fate", ["lose_answer", "half_answer", "half_body", "empty_body"])
@pytest.mark.parametrize("times", [1, 20])
def test_listing_is_whole_or_an_error(s3_server: S3Server, region: Region, fate: str, times: int) -> None:
    """A listing that broke must never read as "there is nothing": retirement would delete everything."""
    real = open_store(region)
    for number in range(7):
        real.put_new(f"layers/{number}", b"x")
    upload_id = real.create_multipart("layers/pending")
    expected = [f"layers/{number}" for number in range(7)]
    with proxy(s3_server.port, Script(lambda line: "list-type=2" in line, [fate] * times)) as url:
        store = through(region, url)
        if times == 1:
            assert [item.key for item in store.list("layers/")] == expected
        else:
            with pytest.raises(Transient):
                list(store.list("layers/"))
    with proxy(s3_server.port, Script(lambda line: "?uploads" in line, [fate] * times)) as url:
        store = through(region, url)
        if times == 1:
            assert [upload.upload_id for upload in store.list_multipart("layers/")] == [upload_id]
        else:
            with pytest.raises(Transient):
                list(store.list_multipart("layers/"))


@pytest.mark.parametrize("fate", ["lose_answer", "half_answer", "half_body", "empty_body"])
def test_range_is_whole_or_tried_again(s3_server: S3Server, region: Region, fate: str) -> None:
    real = open_store(region)
    etag = real.put_new("layers/a", b"0123456789" * 100)
    with proxy(s3_server.port, Script(lambda line: line.startswith("GET "), [fate, fate])) as url:
        assert through(region, url).get_range("layers/a", 10, 500, etag) == b"0123456789" * 50


def creates_a_layer(first_line: str) -> bool:
    return "/layers/" in first_line and (first_line.startswith("PUT ") or "uploadId" in first_line)


@pytest.mark.parametrize("fate", ["busy", "conflict", "lose_request", "lose_answer"])
@pytest.mark.parametrize("size", [1, 20 * MIB], ids=["one piece", "parts"])
def test_an_import_survives_what_stores_do(
    fleet: Fleet, s3_server: S3Server, tmp_path: Path, fate: str, size: int
) -> None:
    """AWS answers 503 to PUTs while it makes room for a growing prefix; 409 while another conditional write runs."""
    image = build(Image({0: DATA}))
    (tmp_path / "tip.qcow2").write_bytes(image + bytes(size - 1))
    script = Script(creates_a_layer if size == 1 else completes, [fate] * 2)
    with proxy(s3_server.port, script) as url:
        regions = tuple(region.model_copy(update={"endpoint": url}) for region in fleet.regions)
        through_proxy = fleet.model_copy(update={"regions": regions})
        done = import_disk(through_proxy, tmp_path, "vm", "tip.qcow2", "us-east")
    assert done.created
    store = open_store(fleet.region("us-east"))
    assert store.info(f"layers/{done.tip}.qcow2").size == len(image) + size - 1
    assert list(store.list_multipart("layers/")) == []


def completes(first_line: str) -> bool:
    return first_line.startswith("POST ") and "uploadId" in first_line
