"""A bucket in memory that keeps the contract of `tasks.store.base`, and a script of faults on top of it."""

import datetime
import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.errors import NotFound, PreconditionFailed, Transient
from tasks.store.base import CopySource, ObjectInfo, Part, PendingUpload
from tasks.store.upload import upload_file

EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@dataclass
class Stored:
    body: bytes
    info: ObjectInfo


@dataclass
class Upload:
    key: str
    initiated: datetime.datetime
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


class MemoryStore:
    """One bucket. `clock_seconds` is the store's clock, moved by hand; `peers` are buckets of the same service."""

    def __init__(self, region: str = "us-east", bucket: str = "memory") -> None:
        self.region, self.bucket = region, bucket
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, Upload] = {}
        self.clock_seconds = 0.0
        self.peers: dict[str, MemoryStore] = {bucket: self}
        self._numbers = itertools.count(1)
        self.lock = threading.RLock()

    def now(self) -> datetime.datetime:
        return EPOCH + datetime.timedelta(seconds=self.clock_seconds)

    def info(self, key: str) -> ObjectInfo:
        return self._stored(key).info

    def get(self, key: str) -> tuple[bytes, ObjectInfo]:
        stored = self._stored(key)
        return stored.body, stored.info

    def get_range(self, key: str, start: int, length: int, if_match: str | None = None) -> bytes:
        stored = self._stored(key)
        if if_match is not None and stored.info.etag != if_match:
            raise PreconditionFailed(f"{self.bucket}/{key}: changed")
        return stored.body[start : start + length]

    def put_new(self, key: str, body: bytes) -> str:
        with self.lock:
            if key in self.objects:
                raise PreconditionFailed(f"{self.bucket}/{key}: exists")
            return self.put(key, body)

    def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        with self.lock:
            if key not in self.objects or self.objects[key].info.etag != etag:
                raise PreconditionFailed(f"{self.bucket}/{key}: changed")
            return self.put(key, body)

    def delete(self, key: str, if_match: str | None = None) -> None:
        with self.lock:
            stored = self.objects.get(key)
            if stored is not None and if_match is not None and stored.info.etag != if_match:
                raise PreconditionFailed(f"{self.bucket}/{key}: changed")
            self.objects.pop(key, None)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        names = sorted(key for key in self.objects if key.startswith(prefix) and key > start_after)
        return iter([self.objects[key].info for key in names])

    def upload_file(self, key: str, path: Path) -> str:
        return upload_file(self, key, path)

    def create_multipart(self, key: str) -> str:
        with self.lock:
            upload_id = f"upload-{next(self._numbers)}"
            self.uploads[upload_id] = Upload(key, self.now())
            return upload_id

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        etag = _etag(body)
        self.upload(key, upload_id).parts[number] = (etag, body)
        return Part(number, etag, len(body))

    def copy_part(self, key: str, upload_id: str, number: int, source: CopySource) -> Part:
        peer = self.peers[source.bucket]
        body = peer.get_range(source.key, source.start, source.length, source.etag)
        return self.upload_part(key, upload_id, number, body)

    def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> str:
        with self.lock:
            upload = self.upload(key, upload_id)
            body = b"".join(upload.parts[part.number][1] for part in sorted(parts, key=lambda part: part.number))
            if key in self.objects:
                raise PreconditionFailed(f"{self.bucket}/{key}: exists")
            del self.uploads[upload_id]
            return self.put(key, body)

    def abort_multipart(self, key: str, upload_id: str) -> None:
        self.uploads.pop(upload_id, None)

    def list_multipart(self, prefix: str) -> Iterator[PendingUpload]:
        for upload_id, upload in sorted(self.uploads.items()):
            if upload.key.startswith(prefix):
                yield PendingUpload(upload.key, upload_id, upload.initiated)

    def _stored(self, key: str) -> Stored:
        try:
            return self.objects[key]
        except KeyError:
            raise NotFound(f"{self.bucket}/{key}: no such object") from None

    def upload(self, key: str, upload_id: str) -> Upload:
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise NotFound(f"{self.bucket}/{key}: no such upload")
        return upload

    def put(self, key: str, body: bytes) -> str:
        etag = _etag(body)
        self.objects[key] = Stored(body, ObjectInfo(key, len(body), etag, self.now()))
        return etag


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


@dataclass
class Fault:
    """At the `nth` call (1 = first) of `method`, and `times` in a row: `how` it goes wrong.

    not_applied   5xx, nothing happened
    lost          applied, but the answer never arrives
    before        `action` runs first (a race), then the call goes through
    after         the call goes through, then `action` runs and the answer is lost
    page          (list only) the listing raises after its first item
    stale         (list only) the listing is the one of the previous call
    """

    method: str
    how: str
    nth: int = 1
    times: int = 1
    action: Callable[[], Any] | None = None


class FaultyStore:
    """A store with a script of faults. Counts every call in `calls`."""

    def __init__(self, inner: Any, *faults: Fault) -> None:
        self.inner, self.faults = inner, list(faults)
        self.region, self.bucket = inner.region, inner.bucket
        self.calls: list[str] = []
        self.last_list: dict[str, list[ObjectInfo]] = {}

    def __getattr__(self, name: str) -> Any:
        target = getattr(self.inner, name)
        return (lambda *args, **kwargs: self._call(name, target, *args, **kwargs)) if callable(target) else target

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        fault = self._fault("list")
        items = list(self.inner.list(prefix, start_after))
        if fault is not None and fault.how == "stale":
            items = self.last_list.get(prefix, [])
        self.last_list[prefix] = items
        for number, item in enumerate(items):
            if fault is not None and fault.how == "page" and number == 1:
                raise Transient("list: page lost")
            yield item

    def upload_file(self, key: str, path: Path) -> str:
        return upload_file(self, key, path)

    def _fault(self, name: str) -> Fault | None:
        self.calls.append(name)
        number = self.calls.count(name)
        due = (fault for fault in self.faults if fault.method == name and fault.nth <= number < fault.nth + fault.times)
        return next(due, None)

    def _call(self, name: str, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        fault = self._fault(name)
        if fault is None:
            return target(*args, **kwargs)
        if fault.how == "not_applied":
            raise Transient(f"{name}: 503")
        if fault.how == "before" and fault.action is not None:
            fault.action()
            return target(*args, **kwargs)
        target(*args, **kwargs)
        if fault.how == "after" and fault.action is not None:
            fault.action()
        raise Transient(f"{name}: answer lost")
