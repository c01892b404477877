"""The metadata of one layer that is not on this machine: by URL, or by layer id in the fleet's buckets."""

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import HTTPError

from tasks import retry
from tasks.chain.qcow2_names import NameRules
from tasks.chain.qcow2_ranges import ByteRange
from tasks.chain.qcow2_reader import Qcow2Reader
from tasks.errors import NotFound, Permanent, PreconditionFailed, Transient
from tasks.inventory.layer_scan import ScanRules
from tasks.inventory.local import LayerMap, read_layer
from tasks.store import keys
from tasks.store.base import ObjectInfo, ObjectStore

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_TIMEOUT = urllib3.Timeout(connect=5, read=60)


@dataclass(frozen=True, slots=True)
class Found:
    """Where a layer is."""

    region: str
    item: ObjectInfo


def find_layer(stores: Mapping[str, ObjectStore], layer_id: str) -> Found:
    """Ask every region for the layer. NotFound if none has it."""
    for region, store in stores.items():
        try:
            for attempt in retry.store_call():
                with attempt:
                    return Found(region, store.info(keys.layer(layer_id)))
        except NotFound:
            continue
    raise NotFound(f"layer {layer_id} is in no region ({', '.join(stores)})")


def inspect_layer(store: ObjectStore, item: ObjectInfo, rules: ScanRules) -> LayerMap:
    """Read the metadata of an object, of exactly the version that `item` names. Raises the store's errors."""

    def read(wanted: ByteRange) -> bytes:
        for attempt in retry.store_call():
            with attempt:
                return store.get_range(item.key, wanted.start, wanted.length, if_match=item.etag)
        raise AssertionError

    return read_layer(Qcow2Reader(item.size, rules.names(item.key.rsplit("/", 1)[-1]), rules.limits), read)


def inspect_url(url: str) -> LayerMap:
    """Read the metadata by HTTP ranges. NotFound, Transient, Permanent; PreconditionFailed if it changes meanwhile."""
    try:
        name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1])
    except ValueError as error:
        raise Permanent(f"{url}: {error}") from None
    with urllib3.PoolManager(timeout=_TIMEOUT, retries=False) as pool:
        source = _HttpSource(pool, url)
        size = source.measure()
        return read_layer(Qcow2Reader(size, NameRules(own_name=name or None)), source.read)


class _HttpSource:
    """Ranged reads of one URL, all of one version."""

    def __init__(self, pool: urllib3.PoolManager, url: str) -> None:
        self._pool = pool
        self._url = url
        self._version: str | None = None
        self._size = 0

    def measure(self) -> int:
        """Bytes of the object."""
        answer, _ = self._get(ByteRange(0, 1))
        if answer.status == 416:
            return 0
        self._size = int(self._content_range(answer)[2])
        self._version = answer.headers.get("ETag")
        return self._size

    def read(self, wanted: ByteRange) -> bytes:
        """Exactly the range, cut at the object's end."""
        for attempt in retry.store_call():
            with attempt:
                return self._read(wanted)
        raise AssertionError

    def _read(self, wanted: ByteRange) -> bytes:
        answer, body = self._get(wanted)
        first, last, size = (int(group) for group in self._content_range(answer))
        if answer.headers.get("ETag") != self._version or size != self._size:
            raise PreconditionFailed(f"{self._url}: changed while it was read")
        if first != wanted.start or len(body) != last - first + 1 or last >= wanted.end:
            raise Transient(f"{self._url}: asked for {wanted.start}+{wanted.length}, got {first}-{last}/{size}")
        return body

    def _content_range(self, answer: urllib3.BaseHTTPResponse) -> tuple[str, ...]:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status != 206 or match is None:
            meaning = ": the server has no ranges" if answer.status == 200 else ""
            raise Permanent(f"{self._url}: asked for a range, got status {answer.status}{meaning}")
        return match.groups()

    def _get(self, wanted: ByteRange) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        headers = {"Range": f"bytes={wanted.start}-{wanted.end - 1}"}
        try:
            # The body is taken only if it is the range: a server without ranges would send the whole layer.
            answer = self._pool.request("GET", self._url, headers=headers, preload_content=False)
            with answer:
                body = answer.read(wanted.length + 1) if answer.status == 206 else b""
        except (HTTPError, ValueError) as error:
            raise Transient(f"{self._url}: {error}") from None
        if answer.status == 404:
            raise NotFound(f"{self._url}: no such object")
        if answer.status >= 500 or answer.status == 429:
            raise Transient(f"{self._url}: status {answer.status}")
        return answer, body
