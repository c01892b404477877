"""Does a store really do what Chainwright's promises rest on? Asked by doing it, never by its name.

Some widely used S3 servers ignore `If-None-Match` and `If-Match` without a word, or check them without a lock: then two
writers both win and a disk is lost. Every probe works on random keys under `doctor/` and removes them.
"""

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from tasks import clock
from tasks.errors import ChainwrightError, NotFound, PreconditionFailed
from tasks.store import keys
from tasks.store.base import CopySource, ObjectStore
from tasks.units import MIB

RACERS = 8  # writers at once; more make some servers queue for seconds
ROUNDS = 4  # races of each kind: a window of microseconds is not hit every time
INCREMENTS = 24  # of the shared counter
TRIES = 100  # of one increment, against three others
PART = 5 * MIB
_STALE = '"00000000000000000000000000000000"'
_OTHER_CLOCK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Check:
    """One verdict. `required`: a failure makes the doctor refuse."""

    name: str
    ok: bool
    detail: str
    required: bool = True


class Violation(Exception):
    """What a probe found wrong; its text is the check's detail."""


Probe = Callable[[ObjectStore, str], str]  # store, prefix -> what was seen; raises Violation


def probe_store(store: ObjectStore, first_page: ObjectStore) -> list[Check]:
    """All probes of one bucket. `first_page` is the same bucket with a tiny page size for listings."""
    prefix = f"{keys.DOCTOR}{secrets.token_hex(8)}/"
    reach = run_probe("reachable", reachable, store, prefix)
    if not reach.ok:
        return [reach]
    try:
        checks = [run_probe(name, probe, store, prefix) for name, probe in REQUIRED]
        checks.append(run_probe("list_paging", list_paging, first_page, prefix))
        checks += [run_probe(name, probe, store, prefix, required=False) for name, probe in WANTED]
    finally:
        clean(store, prefix)
    return [reach, *checks]


def run_probe(name: str, probe: Probe, store: ObjectStore, prefix: str, required: bool = True) -> Check:
    """The verdict of one probe; a store's error is a failure with its text."""
    try:
        return Check(name, True, probe(store, f"{prefix}{name}/"), required)
    except (Violation, ChainwrightError) as error:
        return Check(name, False, str(error), required)


def clean(store: ObjectStore, prefix: str) -> None:
    """Remove what the probes left; what cannot be removed is under `doctor/` and refers to nothing."""
    with suppress(ChainwrightError):
        for upload in list(store.list_multipart(prefix)):
            store.abort_multipart(upload.key, upload.upload_id)
        for item in list(store.list(prefix)):
            store.delete(item.key)


def reachable(store: ObjectStore, prefix: str) -> str:
    """Credentials, bucket, right to list."""
    started = clock.monotonic()
    for _ in store.list(prefix):
        break
    return f"answers in {(clock.monotonic() - started) * 1000:.0f} ms"


def put_if_none_match(store: ObjectStore, prefix: str) -> str:
    """A second create must be refused and change nothing."""
    key = prefix + "a"
    store.put_new(key, b"first")
    refused("If-None-Match: *", lambda: store.put_new(key, b"second"))
    expect(store, key, b"first")
    return "the second create is refused"


def put_if_match(store: ObjectStore, prefix: str) -> str:
    """The right ETag replaces; a stale or foreign one is refused; nothing is created by it."""
    key = prefix + "a"
    first = store.put_new(key, b"1")
    try:
        second = store.put_if_match(key, b"2", first)
    except PreconditionFailed as error:
        raise Violation(f"If-Match with the current ETag is refused, so heads could never change: {error}") from None
    refused("If-Match with a stale ETag", lambda: store.put_if_match(key, b"3", first))
    expect(store, key, b"2")
    if second == first:
        raise Violation("the ETag did not change with the content")
    refused("If-Match on a key that is not there", lambda: store.put_if_match(prefix + "none", b"4", first))
    with suppress(NotFound):
        store.info(prefix + "none")
        raise Violation("If-Match created a key that was not there")
    return "only the current ETag replaces"


def race_create(store: ObjectStore, prefix: str) -> str:
    """Of many creates at once exactly one wins, and its bytes are there."""
    for number in range(ROUNDS):
        key = f"{prefix}{number}"
        one_winner(store, key, partial(store.put_new, key))
    return f"{ROUNDS} x {RACERS} writers, one winner each"


def race_replace(store: ObjectStore, prefix: str) -> str:
    """Of many replacements of one version exactly one wins."""
    for number in range(ROUNDS):
        key = f"{prefix}{number}"
        etag = store.put_new(key, b"start")
        one_winner(store, key, partial(store.put_if_match, key, etag=etag))
    return f"{ROUNDS} x {RACERS} writers, one winner each"


def counter(store: ObjectStore, prefix: str) -> str:
    """Increments by compare-and-swap from several threads: none is lost, reads are fresh."""
    key = prefix + "counter"
    store.put_new(key, b"0")

    stuck = threading.Event()

    def add(_: int) -> None:
        for _try in range(TRIES):
            if stuck.is_set():
                return
            body, info = store.get(key)
            with suppress(PreconditionFailed):
                store.put_if_match(key, str(int(body) + 1).encode(), info.etag)
                return
        stuck.set()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(INCREMENTS)))
    if stuck.is_set():
        raise Violation(f"an increment did not win in {TRIES} tries")
    found = int(store.get(key)[0])
    if found != INCREMENTS:
        raise Violation(f"{INCREMENTS - found} of {INCREMENTS} acknowledged increments are lost")
    return f"{INCREMENTS} increments, none lost"


def multipart(store: ObjectStore, prefix: str) -> str:
    """A multipart upload must not replace an object either, and gives exactly its parts."""
    key = prefix + "a"
    store.put_new(key, b"there")
    upload_id = store.create_multipart(key)
    part = store.upload_part(key, upload_id, 1, b"x" * 1000)
    refused(
        "If-None-Match: * at the end of a multipart upload", lambda: store.complete_multipart(key, upload_id, [part])
    )
    expect(store, key, b"there")
    store.abort_multipart(key, upload_id)
    new = prefix + "b"
    upload_id = store.create_multipart(new)
    parts = [store.upload_part(new, upload_id, 2, b"tail"), store.upload_part(new, upload_id, 1, b"h" * PART)]
    etag = store.complete_multipart(new, upload_id, parts)
    info = store.info(new)
    if (info.size, info.etag) != (PART + 4, etag) or store.get_range(new, PART - 1, 9) != b"htail":
        raise Violation(f"two parts became {info.size} bytes with ETag {info.etag}, not {PART + 4} with {etag}")
    return "does not replace; parts in order"


def copy_part(store: ObjectStore, prefix: str) -> str:
    """Server-side copy of a byte range, bound to the source's ETag. AWS copies ranges of objects above 5 MiB only."""
    source, key = prefix + "source", prefix + "target"
    body = bytes(range(251)) * (PART // 251 + 2)
    etag = store.put_new(source, body)
    upload_id = store.create_multipart(key)
    refused(
        "x-amz-copy-source-if-match with a stale ETag",
        lambda: store.copy_part(key, upload_id, 1, CopySource(store.bucket, source, 0, 10, _STALE)),
    )
    part = store.copy_part(key, upload_id, 1, CopySource(store.bucket, source, 3, 300, etag))
    store.complete_multipart(key, upload_id, [part])
    expect(store, key, body[3:303])
    return "ranges by server-side copy, bound to the version"


def ranges(store: ObjectStore, prefix: str) -> str:
    """Ranged reads are exact and bound to a version."""
    key, body = prefix + "a", bytes(range(256)) * 16
    etag = store.put_new(key, body)
    for start, length in ((0, 1), (255, 513), (4090, 100)):
        if store.get_range(key, start, length, etag) != body[start : start + length]:
            raise Violation(f"bytes {start}+{length} are not what was written")
    refused("If-Match on a read", lambda: store.get_range(key, 0, 1, _STALE))
    return "exact, bound to the version"


def list_paging(store: ObjectStore, prefix: str) -> str:
    """A listing over several pages is complete and in order, also from the middle and right after the writes."""
    names = [f"{prefix}{number:02}" for number in range(11)]
    for name in reversed(names):
        store.put_new(name, name.encode())
    found = [item.key for item in store.list(prefix)]
    if found != names:
        raise Violation(f"{len(names)} keys were written, the listing gives {len(found)}: {', '.join(found)[:200]}")
    rest = [item.key for item in store.list(prefix, names[4])]
    if rest != names[5:]:
        raise Violation(f"a listing from the middle gives {len(rest)} keys instead of 6")
    return "complete, in order, over several pages"


def delete_if_match(store: ObjectStore, prefix: str) -> str:
    """A delete bound to a version leaves a newer one alone."""
    key = prefix + "a"
    store.put_new(key, b"1")
    refused("If-Match on a delete", lambda: store.delete(key, _STALE))
    expect(store, key, b"1")
    return "only the named version is deleted"


def same_clock(store: ObjectStore, prefix: str) -> str:
    """Leases are judged by the store's clock, so a skew does no harm; it confuses people who read logs."""
    store.put_new(prefix + "a", b"")
    written = store.info(prefix + "a").last_modified
    skew = (store.now() - clock.now()).total_seconds()
    inside = (store.now() - written).total_seconds()
    if abs(inside) > _OTHER_CLOCK_SECONDS:
        raise Violation(f"LastModified and Date of the same store differ by {inside:.0f} s")
    if abs(skew) > _OTHER_CLOCK_SECONDS:
        raise Violation(f"the store's clock and this machine's differ by {skew:.0f} s")
    return f"differs from this machine's by {abs(skew):.0f} s"


REQUIRED: tuple[tuple[str, Probe], ...] = (
    ("put_if_none_match", put_if_none_match),
    ("put_if_match", put_if_match),
    ("race_create", race_create),
    ("race_replace", race_replace),
    ("counter", counter),
    ("multipart", multipart),
    ("copy_part", copy_part),
    ("ranges", ranges),
)
WANTED: tuple[tuple[str, Probe], ...] = (("delete_if_match", delete_if_match), ("clock", same_clock))


def refused(what: str, call: Callable[[], object]) -> None:
    """Violation unless the call raises PreconditionFailed."""
    try:
        call()
    except PreconditionFailed:
        return
    raise Violation(f"{what} is ignored")


def expect(store: ObjectStore, key: str, body: bytes) -> None:
    """Violation unless the object has exactly these bytes."""
    found = store.get(key)[0]
    if found != body:
        raise Violation(f"the object has other bytes than the acknowledged write ({found[:20]!r})")


def one_winner(store: ObjectStore, key: str, write: Callable[..., str]) -> None:
    """Violation unless exactly one of RACERS concurrent writes succeeds and is what is read afterwards."""
    gate = threading.Barrier(RACERS)

    def run(number: int) -> bool:
        gate.wait()
        try:
            write(str(number).encode())
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(RACERS) as pool:
        won = [number for number, success in enumerate(pool.map(run, range(RACERS))) if success]
    if len(won) != 1:
        raise Violation(f"{len(won)} of {RACERS} concurrent conditional writes were told that they won")
    expect(store, key, str(won[0]).encode())
