"""Send a result: parts that the store copies itself, parts that travel, one conditional completion, then read back.

A part's bytes carry their MD5, so that the store refuses others. Where the ETag that it answers with is not that MD5
(AWS with SSE-KMS: as long, but of something else), the bytes are read back after the completion and compared. Then the
object's size is checked and its metadata is read again by our own reader: the map must be the one that was proved.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from tasks.chain.layer import layer_file_name
from tasks.chain.parts import SEND_BYTES
from tasks.chain.qcow2_names import NameRules
from tasks.errors import ChainwrightError, OutcomeUnknown, Permanent, PreconditionFailed, Refused
from tasks.execute.job import Job
from tasks.execute.parallel import in_parallel
from tasks.execute.replica import HeldFile, Replica, read_metadata
from tasks.inventory.local import LayerMap
from tasks.plan.steps import LayerRef
from tasks.store import keys
from tasks.store.base import CopySource, Part
from tasks.store.upload import complete_upload

PARALLEL_PARTS = 4
SAMPLE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Send:
    """A part whose bytes are in a local file."""

    file: HeldFile
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Copy:
    """A part that the store copies from a layer."""

    source: LayerRef
    start: int
    length: int


PartSource = Send | Copy


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The new object and the sum of what was sent for it (sha256 over the sent parts in order)."""

    ref: LayerRef
    sent_sha256: str


def upload(job: Job, layer_id: str, parts: Sequence[PartSource]) -> Uploaded:
    """Create the layer from its parts. PreconditionFailed if its key is taken or a source changed.

    Nothing is left behind on failure, unless the process dies: then the journal names the key, and the next attempt
    aborts the unfinished upload.
    """
    key = keys.layer(layer_id)
    size = sum(part.length for part in parts)
    only = parts[0] if len(parts) == 1 else None
    with ThreadPoolExecutor(1) as beside:  # the sum takes as long as a fast network
        digest = beside.submit(_sent_sha256, parts)
        if isinstance(only, Send) and only.length <= SEND_BYTES:
            etag, summed = _put_small(job, key, only)
        else:
            etag, summed = _multipart(job, key, parts)
        _verify_sent(job, key, etag, parts, summed)
        return Uploaded(LayerRef(layer_id, job.action.home_region, etag, size), digest.result())


def verify_uploaded(job: Job, uploaded: Uploaded, expected: LayerMap) -> None:
    """Read the object's size and metadata back; the map must equal the proved one. Permanent otherwise."""
    ref = uploaded.ref
    info = job.home.info(keys.layer(ref.layer_id))
    if info.size != ref.size_bytes or info.etag != ref.etag:
        raise Permanent(
            f"layer {ref.layer_id}: uploaded {ref.size_bytes} bytes {ref.etag}, found {info.size} {info.etag}"
        )
    folder = job.folder / "readback"
    folder.mkdir(exist_ok=True)
    replica = Replica(ref, job.home, folder)
    try:
        found = read_metadata(replica, NameRules(own_name=layer_file_name(ref.layer_id)))
    except Refused as error:
        raise Permanent(f"the uploaded object is not sound: {error}") from None
    finally:
        replica.close()
    if found.facts != expected.facts or found.extents != expected.extents:
        raise Permanent(f"layer {ref.layer_id}: the uploaded object's map is not the one that was proved")


def verify_copies(job: Job, uploaded: Uploaded, parts: Sequence[PartSource]) -> None:
    """Compare both ends of every part that the store copied with its source. Permanent if a byte differs."""
    samples = [
        (part, at, inside)
        for part, at in zip(parts, _places(parts), strict=True)
        if isinstance(part, Copy)
        for inside in {0, max(0, part.length - SAMPLE_BYTES)}
    ]
    in_parallel(lambda sample: _verify_sample(job, uploaded, *sample), samples)


def _verify_sample(job: Job, uploaded: Uploaded, part: Copy, at: int, inside: int) -> None:
    count = min(SAMPLE_BYTES, part.length - inside)
    source, key = job.stores[part.source.region], keys.layer(part.source.layer_id)
    old = source.get_range(key, part.start + inside, count, part.source.etag)
    new = job.home.get_range(keys.layer(uploaded.ref.layer_id), at + inside, count, uploaded.ref.etag)
    if old != new:
        raise Permanent(f"layer {uploaded.ref.layer_id}: bytes copied to {at + inside} are not the source's")


def _places(parts: Sequence[PartSource]) -> list[int]:
    """Where in the new object each part begins."""
    ends: list[int] = np.cumsum([part.length for part in parts]).tolist()
    return [end - part.length for end, part in zip(ends, parts, strict=True)]


def _verify_sent(job: Job, key: str, etag: str, parts: Sequence[PartSource], summed: Sequence[bool]) -> None:
    """Compare what the store's answer did not show to be what was sent. Permanent if a byte differs."""

    def compare(part: Send, at: int) -> None:
        if job.home.get_range(key, at, part.length, etag) != part.file.read(part.start, part.length):
            raise Permanent(f"{key}: the {part.length} bytes at {at} are not those that were sent")

    placed = zip(parts, _places(parts), summed, strict=True)
    doubtful = [(part, at) for part, at, sure in placed if isinstance(part, Send) and not sure]
    in_parallel(lambda pair: compare(*pair), doubtful, PARALLEL_PARTS)


def _put_small(job: Job, key: str, part: Send) -> tuple[str, list[bool]]:
    """The new ETag, and whether it is the MD5 of what was sent."""
    body = part.file.read(part.start, part.length)
    try:
        etag = job.home.put_new(key, body)
    except ChainwrightError as error:
        if isinstance(error, PreconditionFailed):
            raise
        etag = _read_back(job, key, len(body), error)
    return etag, [_is_sum(etag, body)]


def _read_back(job: Job, key: str, size: int, error: ChainwrightError) -> str:
    """A lost answer: an object of this size under a key that only this attempt knows is ours."""
    try:
        info = job.home.info(key)
    except ChainwrightError:
        raise error from None
    if info.size != size:
        raise PreconditionFailed(f"{key}: exists with {info.size} bytes, not {size}") from None
    return info.etag


def _multipart(job: Job, key: str, parts: Sequence[PartSource]) -> tuple[str, list[bool]]:
    """The new ETag, and of each part whether its own is the MD5 of what was sent."""
    store = job.home
    upload_id = store.create_multipart(key)
    try:
        job.at("uploading")
        sent = in_parallel(lambda n: _one(job, key, upload_id, n + 1, parts[n]), range(len(parts)), PARALLEL_PARTS)
        return complete_upload(store, key, upload_id, [part for part, _ in sent]), [sure for _, sure in sent]
    except OutcomeUnknown:
        raise
    except BaseException:
        with suppress(ChainwrightError):
            store.abort_multipart(key, upload_id)
        raise


def _one(job: Job, key: str, upload_id: str, number: int, part: PartSource) -> tuple[Part, bool]:
    if isinstance(part, Copy):
        bucket = job.stores[part.source.region].bucket
        source = CopySource(bucket, keys.layer(part.source.layer_id), part.start, part.length, part.source.etag)
        return job.home.copy_part(key, upload_id, number, source), False
    body = part.file.read(part.start, part.length)
    done = job.home.upload_part(key, upload_id, number, body)
    return done, _is_sum(done.etag, body)


def _is_sum(etag: str, body: bytes) -> bool:
    return etag.strip('"') == hashlib.md5(body, usedforsecurity=False).hexdigest()


def _sent_sha256(parts: Sequence[PartSource]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Send):
            for at in range(part.start, part.start + part.length, SEND_BYTES):
                digest.update(part.file.read(at, min(SEND_BYTES, part.start + part.length - at)))
    return digest.hexdigest()
