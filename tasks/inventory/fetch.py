"""Ranged reads of layers. `obstore` (Rust) does several times more small requests a second than boto3, at a quarter
of the CPU; docs/benchmarks/inventory.md has the figures. All else goes through `tasks.store`.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import obstore
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import S3Store

from tasks import retry
from tasks.chain.qcow2_ranges import Block
from tasks.errors import NotFound, Permanent, PreconditionFailed, Transient
from tasks.settings import USER_AGENT, Region
from tasks.store.base import ObjectStore
from tasks.store.credentials import ca_bundle, session_of

if TYPE_CHECKING:
    from obstore.store import ClientConfig


class RangeSource(Protocol):
    """Thread-safe ranged reads of one bucket."""

    def read(self, key: str, start: int, length: int, etag: str) -> Block:
        """Bytes `[start, start+length)` (cut at the object's end) of exactly the version `etag`.

        Retries what is worth it. NotFound, PreconditionFailed, Transient, Permanent.
        """


class StoreSource:
    """Any ObjectStore."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def read(self, key: str, start: int, length: int, etag: str) -> Block:
        """One get_range, retried."""
        for attempt in retry.store_call():
            with attempt:
                return self._store.get_range(key, start, length, if_match=etag)
        raise AssertionError


class ObstoreSource:
    """A region's bucket through obstore."""

    def __init__(self, region: Region) -> None:
        self._where = f"{region.endpoint or 'AWS S3'} {region.bucket}"
        self._store = _open(region)

    def read(self, key: str, start: int, length: int, etag: str) -> Block:
        """One GET with Range and If-Match, retried."""
        for attempt in retry.store_call():
            with attempt:
                return self._read(key, start, length, etag)
        raise AssertionError

    def _read(self, key: str, start: int, length: int, etag: str) -> Block:
        if length <= 0:
            return b""
        where = f"{self._where}/{key}"
        try:
            answer = obstore.get(self._store, key, options={"range": (start, start + length), "if_match": etag})
            body = memoryview(answer.bytes())  # not copied: most of a small layer is in it
        except (NotFoundError, FileNotFoundError):  # the library uses Python's own
            raise NotFound(f"{where}: no such object") from None
        except PreconditionError:
            raise PreconditionFailed(f"{where}: no longer {etag}") from None
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise Permanent(f"{where}: {_first_line(error)}") from None
        except (BaseError, OSError, ValueError) as error:
            raise Transient(f"{where}: {_first_line(error)}") from None
        # Asked for a range: an answer that begins elsewhere (a 200 with the whole object) is not it.
        if answer.range[0] != start or len(body) > length:
            raise Transient(f"{where}: asked for {start}+{length}, got {answer.range[0]}+{len(body)}")
        return body


def _open(region: Region) -> S3Store:
    authority = ca_bundle(region)
    trust: ClientConfig = {"root_certificate": authority} if authority else {}
    return S3Store(
        bucket=region.bucket,
        endpoint=region.endpoint or None,
        region=region.s3_region,
        credential_provider=Boto3CredentialProvider(session_of(region)),
        # Not for a bucket with dots: AWS's certificate names one label before `s3`.
        virtual_hosted_style_request=not region.endpoint and "." not in region.bucket,
        client_options={
            "allow_http": True,
            "timeout": timedelta(seconds=120),
            "connect_timeout": timedelta(seconds=5),
            "user_agent": USER_AGENT,
            **trust,
        },
        # Our own policy retries (tasks.retry); the library would wait minutes.
        retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=30)},
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
