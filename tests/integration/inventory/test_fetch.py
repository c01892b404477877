"""Ranged reads of single objects: exactly the bytes of exactly one version, from the object store and by HTTP."""

import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tasks.errors import ConfigError, NotFound, Permanent, PreconditionFailed, Transient
from tasks.inventory import remote
from tasks.inventory.fetch import ObstoreSource
from tasks.settings import Fleet
from tasks.store.base import ObjectStore
from tests.support.qcow2_bytes import DATA, Image, build

BODY = bytes(range(256)) * 20


@pytest.mark.s3
def test_ranges_of_one_version(fleet: Fleet, stores: dict[str, ObjectStore]) -> None:
    region = fleet.region("eu-west")
    etag = stores["eu-west"].put_new("layers/x", BODY)
    source = ObstoreSource(region)
    assert source.read("layers/x", 0, 10, etag) == BODY[:10]
    assert source.read("layers/x", 5000, 1 << 20, etag) == BODY[5000:]
    assert source.read("layers/x", 7, 0, etag) == b""
    with pytest.raises(PreconditionFailed, match="no longer"):
        source.read("layers/x", 0, 10, '"00000000000000000000000000000000"')
    with pytest.raises(NotFound, match=r"eu-west.*layers/y"):
        source.read("layers/y", 0, 10, etag)
    stores["eu-west"].put_if_match("layers/x", BODY + b"!", etag)
    with pytest.raises(PreconditionFailed):
        source.read("layers/x", 0, 10, etag)


@pytest.mark.s3
def test_credentials_and_addresses_that_are_wrong(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    region = fleet.region("eu-west")
    monkeypatch.setattr("tasks.retry.clock.sleep", lambda seconds: None)
    closed = region.model_copy(update={"endpoint": "http://127.0.0.1:1"})
    with pytest.raises(Transient, match=r"127\.0\.0\.1:1"):
        ObstoreSource(closed).read("layers/x", 0, 10, '"e"')
    monkeypatch.setenv("WRONG_KEY", "wrong")
    monkeypatch.setenv("WRONG_SECRET", "wrong")
    wrong = region.model_copy(update={"access_key_env": "WRONG_KEY", "secret_key_env": "WRONG_SECRET"})
    with pytest.raises(Permanent, match="eu-west"):
        ObstoreSource(wrong).read("layers/x", 0, 10, '"e"')
    monkeypatch.delenv("WRONG_SECRET")
    with pytest.raises(ConfigError, match="WRONG_SECRET"):
        ObstoreSource(wrong)


@dataclass
class WebServer:
    """A server of one object whose answers can be spoilt."""

    body: bytes
    spoil: Callable[[http.server.BaseHTTPRequestHandler, int, int], bool] = lambda handler, first, last: False
    requests: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def web() -> Iterator[WebServer]:
    state = WebServer(build(Image({5: DATA})))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.headers["Range"])
            first, last = (int(part) for part in self.headers["Range"].removeprefix("bytes=").split("-"))
            last = min(last, len(state.body) - 1)
            if not state.spoil(self, first, last):
                answer(self, 206, state.body[first : last + 1], f"bytes {first}-{last}/{len(state.body)}")

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/layers/x.qcow2?signature=a%2Fb"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def answer(
    handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes, content_range: str = "", etag: str = '"1"'
) -> bool:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("ETag", etag)
    if content_range:
        handler.send_header("Content-Range", content_range)
    handler.end_headers()
    handler.wfile.write(body)
    return True


def test_inspect_by_url(web: WebServer) -> None:
    found = remote.inspect_url(web.url)
    assert found.ok
    assert found.extents.start.tolist() == [5 * 512]
    assert len(web.requests) == 2


def test_a_layer_that_backs_itself_is_known_by_its_url(web: WebServer) -> None:
    web.body = build(Image({}, backing="x.qcow2"))
    assert remote.inspect_url(web.url).facts.reason == "backing_self"


def later(status: int, body: bytes, content_range: str, etag: str = '"1"') -> Callable[..., bool]:
    """Spoils all but the first answer, which tells the size."""
    return lambda handler, first, last: last > 0 and answer(handler, status, body, content_range, etag)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda handler, first, last: answer(handler, 404, b""), NotFound),
        (lambda handler, first, last: answer(handler, 200, BODY), Permanent),
        (lambda handler, first, last: answer(handler, 503, b""), Transient),
        (later(206, BODY[:9], "bytes 100-108/3072"), Transient),
        (later(206, BODY[:9], f"bytes 0-8/{1 << 40}"), PreconditionFailed),
        (later(206, BODY[:3072], "bytes 0-3071/3072", '"2"'), PreconditionFailed),
    ],
    ids=["gone", "no ranges", "overloaded", "another range", "another size", "another version"],
)
def test_answers_that_are_not_the_range(
    web: WebServer, spoil: object, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.retry.clock.sleep", lambda seconds: None)
    web.spoil = spoil  # type: ignore[assignment]
    with pytest.raises(error, match=r"127\.0\.0\.1"):
        remote.inspect_url(web.url)


def test_an_empty_object_by_url(web: WebServer) -> None:
    web.spoil = lambda handler, first, last: answer(handler, 416, b"")
    assert remote.inspect_url(web.url).facts.reason == "bad_magic"
