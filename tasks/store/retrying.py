"""A store whose reads, listings and repeatable writes are tried again under `tasks.retry.store_call`.

Conditional writes (`put_new`, `put_if_match`, `complete_multipart`) go through once: after a lost answer their caller
reads back, since a blind retry would lose against its own first try.
"""

import datetime
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tenacity import Retrying

from tasks.errors import Transient
from tasks.retry import store_call
from tasks.store.base import CopySource, ObjectInfo, ObjectStore, Part, PendingUpload
from tasks.store.upload import upload_file


class RetryingStore:
    """Wraps a store; same contract."""

    def __init__(self, inner: ObjectStore, policy: Callable[[], Retrying] = store_call) -> None:
        self.region = inner.region
        self.bucket = inner.bucket
        self.inner = inner
        self._policy = policy

    def now(self) -> datetime.datetime:
        """Retried."""
        return self._policy()(self.inner.now)

    def info(self, key: str) -> ObjectInfo:
        """Retried."""
        return self._policy()(self.inner.info, key)

    def get(self, key: str) -> tuple[bytes, ObjectInfo]:
        """Retried."""
        return self._policy()(self.inner.get, key)

    def get_range(self, key: str, start: int, length: int, if_match: str | None = None) -> bytes:
        """Retried."""
        return self._policy()(self.inner.get_range, key, start, length, if_match)

    def put_new(self, key: str, body: bytes) -> str:
        """Sent once."""
        return self.inner.put_new(key, body)

    def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        """Sent once."""
        return self.inner.put_if_match(key, body, etag)

    def delete(self, key: str, if_match: str | None = None) -> None:
        """Retried: deleting what is gone is no error, and with `if_match` a newer object is safe."""
        self._policy()(self.inner.delete, key, if_match)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """A failed page is asked for again from the last key that was given out."""
        last = start_after
        while True:
            page_policy, pages = self._policy(), self.inner.list(prefix, last)
            try:
                for item in pages:
                    last = item.key
                    yield item
            except Transient:
                first = page_policy(self._first_after, prefix, last)
                if first is None:
                    return
                last = first.key
                yield first
            else:
                return

    def _first_after(self, prefix: str, last: str) -> ObjectInfo | None:
        return next(iter(self.inner.list(prefix, last)), None)

    def upload_file(self, key: str, path: Path) -> str:
        """Parts are retried; the step that creates the object is sent once and read back."""
        return upload_file(self, key, path)

    def create_multipart(self, key: str) -> str:
        """Retried: a lost answer leaves an empty pending upload, which retirement clears."""
        return self._policy()(self.inner.create_multipart, key)

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        """Retried."""
        return self._policy()(self.inner.upload_part, key, upload_id, number, body)

    def copy_part(self, key: str, upload_id: str, number: int, source: CopySource) -> Part:
        """Retried."""
        return self._policy()(self.inner.copy_part, key, upload_id, number, source)

    def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> str:
        """Sent once."""
        return self.inner.complete_multipart(key, upload_id, parts)

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Retried."""
        self._policy()(self.inner.abort_multipart, key, upload_id)

    def list_multipart(self, prefix: str) -> Iterator[PendingUpload]:
        """The whole list is read before the first is given out, so that a retry repeats none."""
        yield from self._policy()(lambda: list(self.inner.list_multipart(prefix)))
