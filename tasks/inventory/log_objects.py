"""Logs that arrive as objects: S3 server access logs, or a cache's log that a shipper uploads.

Every object is read once. Their names begin with their time, and objects may arrive late: so the cursor is the set of
the newest objects that were read, and one name below which all are done.
"""

import gzip
import hashlib
import io
import json
import logging
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from tasks.errors import ConfigError, Permanent
from tasks.store.base import ObjectInfo, ObjectStore
from tasks.units import MIB

logger = logging.getLogger(__name__)

_GZIP = b"\x1f\x8b"
_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.*)")
_KEPT_OBJECTS = 20_000
_MAX_OBJECT = 256 * MIB


@dataclass(slots=True)
class ObjectsCursor:
    """Objects up to the key `before` are done; `seen` are hashes of the keys after it that are done too."""

    before: str = ""
    seen: dict[str, str] = field(default_factory=dict)  # hash of the key -> key

    def to_json(self) -> str:
        """For the manifest. Keeps the newest objects one by one, the rest as one name."""
        ordered = sorted(self.seen.values())
        if len(ordered) > _KEPT_OBJECTS:
            self.before, ordered = ordered[-_KEPT_OBJECTS - 1], ordered[-_KEPT_OBJECTS:]
        return json.dumps({"before": self.before, "seen": ordered}, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> "ObjectsCursor":
        """The inverse; "" is a new cursor. Permanent if it is something else."""
        try:
            raw = json.loads(text or "{}")
            return ObjectsCursor(str(raw.get("before", "")), {_name(key): key for key in raw.get("seen", [])})
        except (ValueError, TypeError, AttributeError) as error:
            raise Permanent(f"log cursor is not readable: {error}") from None


def parse_location(url: str) -> tuple[str, str]:
    """`s3://bucket/prefix` as bucket and prefix. ConfigError for anything else."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ConfigError(f"{url!r} is not s3://bucket/prefix")
    return match[1], match[2]


def new_objects(store: ObjectStore, prefix: str, cursor: ObjectsCursor, max_bytes: int) -> Iterator[list[bytes]]:
    """The lines of each object that the cursor has not passed, in order of their names, up to about `max_bytes`."""
    left = max_bytes
    for info in store.list(prefix, start_after=cursor.before):
        if _name(info.key) in cursor.seen or not info.size:
            continue
        if left <= 0:
            return
        left -= info.size
        yield _lines(store, info)
        cursor.seen[_name(info.key)] = info.key


def _lines(store: ObjectStore, info: ObjectInfo) -> list[bytes]:
    if info.size > _MAX_OBJECT:
        raise Permanent(f"{store.bucket}/{info.key}: a log object of {info.size} bytes")
    body = store.get_range(info.key, 0, info.size, info.etag)
    return (_unpacked(body, f"{store.bucket}/{info.key}") if body[:2] == _GZIP else body).splitlines(keepends=True)


def _unpacked(body: bytes, name: str) -> bytes:
    """Shippers compress. A broken archive is named and left out: the other objects' lines must not wait for it."""
    try:
        with gzip.open(io.BytesIO(body)) as file:
            content = file.read(_MAX_OBJECT + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        logger.warning("%s: %s; left out", name, error)
        return b""
    if len(content) > _MAX_OBJECT:
        raise Permanent(f"{name}: a log object of more than {_MAX_OBJECT} bytes when unpacked")
    return content


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]
