"""The one narrow interface to an object store. The docstrings are the contract; `tests/conformance` checks it."""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing or a HEAD says of an object. `etag` keeps its quotes: send it back as it came."""

    key: str
    size: int
    etag: str
    last_modified: datetime.datetime  # by the store's clock


@dataclass(frozen=True, slots=True)
class Part:
    """A finished part of a multipart upload."""

    number: int
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: datetime.datetime


class ObjectStore(Protocol):
    """One bucket.

    Errors: NotFound, PreconditionFailed, Transient, Permanent (tasks.errors). Reads and listings may be repeated.
    Conditional writes are sent once, never retried by the client library: the caller reads back (promise 4).
    """

    region: str
    bucket: str

    def now(self) -> datetime.datetime:
        """The store's own clock, UTC, to the second: leases and ages are judged by it, not by a worker's clock."""

    def info(self, key: str) -> ObjectInfo:
        """HEAD. Raises NotFound."""

    def get(self, key: str) -> tuple[bytes, ObjectInfo]:
        """The whole object. For small records only."""

    def get_range(self, key: str, start: int, length: int, if_match: str | None = None) -> bytes:
        """Bytes `[start, start+length)`, cut at the object's end. PreconditionFailed if the ETag is another.

        Checks the status (206), Content-Range and length; anything else is Transient.
        """

    def put_new(self, key: str, body: bytes) -> str:
        """Create with `If-None-Match: *`; the new ETag. PreconditionFailed if it exists."""

    def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        """Replace with `If-Match`; the new ETag. PreconditionFailed if it changed or went."""

    def delete(self, key: str, if_match: str | None = None) -> None:
        """Delete; with `if_match` only that version. Deleting what is not there is no error."""

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Every object under the prefix, page by page. A failed page raises: never a short list.

        In key order, but that some stores walk folders: `a/x` comes before `a.qcow2` then.
        """

    def upload_file(self, key: str, path: Path) -> str:
        """Create `key` from a file with `If-None-Match: *`, multipart above a bound; the new ETag."""

    def create_multipart(self, key: str) -> str:
        """Start a multipart upload; its id."""

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        """Send one part (1 to 10,000; all but the last at least 5 MiB). May be repeated."""

    def copy_part(self, key: str, upload_id: str, number: int, source: "CopySource") -> Part:
        """Server-side copy of a range of another object as one part. PreconditionFailed if the source changed."""

    def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> str:
        """Assemble with `If-None-Match: *`; the new ETag."""

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Throw an unfinished upload away. Aborting what is not there is no error."""

    def list_multipart(self, prefix: str) -> Iterator[PendingUpload]:
        """Unfinished uploads under the prefix."""


@dataclass(frozen=True, slots=True)
class CopySource:
    """A byte range `[start, start+length)` of an object in a bucket of the same store service."""

    bucket: str
    key: str
    start: int
    length: int
    etag: str
