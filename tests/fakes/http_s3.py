"""A small S3-like HTTP server with chosen faults: what the doctor must refuse.

Real sockets, real boto3 on the other side. It checks no signatures, but (unless told otherwise) that there is one.
"""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tasks.errors import NotFound, PreconditionFailed
from tasks.store.base import CopySource, ObjectInfo, Part
from tests.fakes.store import MemoryStore

HTTP_DATE = "%a, %d %b %Y %H:%M:%S GMT"


@dataclass
class Faults:
    """How the server is bad."""

    ignore: frozenset[str] = frozenset()  # condition headers (lower case) that it does not look at
    race_seconds: float = 0.0  # between looking at a condition and writing
    if_match_never: bool = False  # every PUT with If-Match is answered 412
    no_ranges: bool = False  # a ranged GET is answered 200 with everything
    short_pages: bool = False  # a listing's second page is empty and claims to be the last
    anonymous: bool = False  # needs no Authorization header
    down: bool = False  # 503 to everything
    region: str = ""  # whatever is signed for another one is answered as AWS does: sign it for this one
    bare_etag: bool = False  # no quotes in the answer to the end of a multipart upload, as Ceph RGW
    requests: list[str] = field(default_factory=list)


class Answer(Exception):
    def __init__(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


def fail(status: int, code: str) -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())


@contextmanager
def serve(faults: Faults) -> Iterator[str]:
    """The server's URL."""
    store = MemoryStore()
    store.clock_seconds = time.time() - store.now().timestamp()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _all(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            faults.requests.append(f"{self.command} {self.path}")
            lower = {key.lower(): value for key, value in self.headers.items()}
            seen = {key: value for key, value in lower.items() if key not in faults.ignore}
            try:
                raise answer(store, faults, self.command, self.path, seen, body)
            except Answer as found:
                reply = found
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in reply.headers:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _all  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(
    store: MemoryStore, faults: Faults, method: str, target: str, headers: dict[str, str], body: bytes
) -> Answer:
    """The reply to one request on `/<bucket>/<key>?query`."""
    parts = urlsplit(target)
    key = unquote(parts.path).lstrip("/").partition("/")[2]
    query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if faults.down:
        return fail(503, "ServiceUnavailable")
    if not faults.anonymous and "authorization" not in headers:
        return fail(403, "AccessDenied")
    if f"/{faults.region}/s3/" not in headers.get("authorization", "") and faults.region:
        text = f"<Error><Code>AuthorizationHeaderMalformed</Code><Region>{faults.region}</Region></Error>"
        return Answer(400, text.encode(), {"x-amz-bucket-region": faults.region})
    try:
        if not key:
            return bucket(store, faults, method, query)
        if method in {"GET", "HEAD"}:
            return read(store, faults, key, headers)
        if method == "DELETE":
            return delete(store, key, query, headers)
        return write(store, faults, key, query, headers, body)
    except NotFound:
        return fail(404, "NoSuchKey")
    except PreconditionFailed:
        return fail(412, "PreconditionFailed")


def bucket(store: MemoryStore, faults: Faults, method: str, query: dict[str, str]) -> Answer:
    if method == "HEAD":
        return Answer(200)
    if "uploads" in query:
        items = "".join(
            f"<Upload><Key>{escape(u.key)}</Key><UploadId>{u.upload_id}</UploadId>"
            f"<Initiated>{u.initiated:%Y-%m-%dT%H:%M:%S.000Z}</Initiated></Upload>"
            for u in store.list_multipart(query.get("prefix", ""))
        )
        body = f"<ListMultipartUploadsResult>{items}<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
        return Answer(200, body.encode())
    after = query.get("continuation-token") or query.get("start-after", "")
    limit = int(query.get("max-keys", 1000))
    found = list(store.list(query.get("prefix", ""), after))
    if faults.short_pages and "continuation-token" in query:
        found = []
    more = len(found) > limit
    page = found[:limit]
    items = "".join(map(entry, page))
    token = f"<NextContinuationToken>{escape(page[-1].key)}</NextContinuationToken>" if more else ""
    body = f"<ListBucketResult>{items}<IsTruncated>{str(more).lower()}</IsTruncated>{token}</ListBucketResult>"
    return Answer(200, body.encode())


def entry(item: ObjectInfo) -> str:
    return (
        f"<Contents><Key>{escape(item.key)}</Key><Size>{item.size}</Size><ETag>{escape(item.etag)}</ETag>"
        f"<LastModified>{item.last_modified:%Y-%m-%dT%H:%M:%S.000Z}</LastModified></Contents>"
    )


def read(store: MemoryStore, faults: Faults, key: str, headers: dict[str, str]) -> Answer:
    body, info = store.get(key)
    if "if-match" in headers and headers["if-match"] != info.etag:
        raise PreconditionFailed(key)
    told = {"ETag": info.etag, "Last-Modified": f"{info.last_modified:{HTTP_DATE}}"}
    asked = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
    if asked is None or faults.no_ranges:
        return Answer(200, body, {**told, "Content-Length": str(len(body))})
    start, end = int(asked[1]), min(int(asked[2]) + 1, len(body))
    if start >= len(body):
        return fail(416, "InvalidRange")
    told["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
    return Answer(206, body[start:end], told)


def delete(store: MemoryStore, key: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
    if "uploadId" in query:
        store.abort_multipart(key, query["uploadId"])
    else:
        store.delete(key, headers.get("if-match"))
    return Answer(204)


def write(
    store: MemoryStore, faults: Faults, key: str, query: dict[str, str], headers: dict[str, str], body: bytes
) -> Answer:
    if "uploads" in query:
        upload_id = store.create_multipart(key)
        text = f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
        return Answer(200, text.encode())
    if "partNumber" in query:
        return part(store, key, query, headers, body)
    with store.lock if not faults.race_seconds else nullcontext():
        check_condition(store, faults, key, headers)
        if "uploadId" in query:
            body = assembled(store, key, query["uploadId"], body)
        time.sleep(faults.race_seconds)
        etag = store.put(key, body)
    if "uploadId" in query:
        shown = etag.strip('"') if faults.bare_etag else etag
        text = f"<CompleteMultipartUploadResult><ETag>{escape(shown)}</ETag></CompleteMultipartUploadResult>"
        return Answer(200, text.encode())
    return Answer(200, headers={"ETag": etag})


def check_condition(store: MemoryStore, faults: Faults, key: str, headers: dict[str, str]) -> None:
    current = store.objects.get(key)
    if headers.get("if-none-match") == "*" and current is not None:
        raise PreconditionFailed(key)
    if "if-match" in headers and (current is None or headers["if-match"] != current.info.etag or faults.if_match_never):
        raise PreconditionFailed(key)


def part(store: MemoryStore, key: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Answer:
    number, upload_id = int(query["partNumber"]), query["uploadId"]
    if "x-amz-copy-source" not in headers:
        return Answer(200, headers={"ETag": store.upload_part(key, upload_id, number, body).etag})
    source = unquote(headers["x-amz-copy-source"]).lstrip("/").partition("/")[2]
    first, last = (int(text) for text in headers["x-amz-copy-source-range"].removeprefix("bytes=").split("-"))
    if store.info(source).size <= 5 << 20:  # as AWS documents it
        return fail(400, "InvalidRequest")
    etag = headers.get("x-amz-copy-source-if-match", store.info(source).etag)
    copied: Part = store.copy_part(
        key, upload_id, number, CopySource(store.bucket, source, first, last - first + 1, etag)
    )
    text = f"<CopyPartResult><ETag>{escape(copied.etag)}</ETag></CopyPartResult>"
    return Answer(200, text.encode())


def assembled(store: MemoryStore, key: str, upload_id: str, body: bytes) -> bytes:
    upload = store.upload(key, upload_id)
    numbers = sorted(int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", body))
    return b"".join(upload.parts[number][1] for number in numbers)
