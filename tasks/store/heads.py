"""Heads in the control store: read, list, and change by compare-and-swap only (design §3-4, promises 2 and 4).

Every write names its attempt. After a 409, 412, 5xx or a time-out the record is read again and judged by
`tasks.chain.head.fate_of_write`:

mine     the write counts as done
pending  not applied: the same bytes are sent again under the same condition, which lets at most one through
other    PreconditionFailed: somebody else was first
unknown  OutcomeUnknown: unreadable, or too many writes since; nothing may be deleted on this basis

A lease expires by the store's clock (the `Date` of its answers), never by the worker's. It only keeps two actions from
doing the same work: what protects the data is the condition on the ETag, which a paused or expired worker fails.
"""

import datetime
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

from tasks import clock
from tasks.chain.head import (
    Head,
    HeadKind,
    Lease,
    check_held,
    check_leasable,
    check_startable,
    check_stoppable,
    fate_of_write,
    head_from_json,
    head_to_json,
)
from tasks.chain.layer import DISK_ID, LAYER_ID
from tasks.errors import (
    ChainwrightError,
    ConfigError,
    Conflict,
    NotFound,
    OutcomeUnknown,
    Permanent,
    PreconditionFailed,
    Refused,
    Transient,
)
from tasks.retry import until_settled, until_won
from tasks.store import keys
from tasks.store.base import ObjectInfo, ObjectStore

READERS = 16  # heads read at once by a listing
_REPEATED = (Transient, Conflict)  # not applied so far: the same write again, under the same condition
_SUPERSEDED = '"superseded"'  # matches no object: ours was written, and something on top of it


class HeadVersion(NamedTuple):
    """A record and the ETag under which it may be replaced."""

    head: Head
    etag: str


@dataclass(frozen=True, slots=True)
class HeadEntry:
    """One object under heads/. `head` is None, and `problem` says why, if the record cannot be understood."""

    disk_id: str
    etag: str
    last_modified: datetime.datetime
    head: Head | None
    problem: str = ""


def new_attempt_id() -> str:
    """A random id for one attempt; never use it for two different writes of the same generation."""
    return secrets.token_hex(16)


class HeadStore:
    """See the module. All methods raise Transient and Permanent when the store cannot be used."""

    def __init__(self, control: ObjectStore) -> None:
        self.control = control

    def read(self, disk_id: str) -> HeadVersion:
        """The record now. NotFound for an unknown disk; Permanent if the record is malformed."""
        key = keys.head(check_disk_id(disk_id))
        try:
            body, info = self.control.get(key)
        except NotFound:
            raise NotFound(f"no disk {disk_id!r} in {self.control.bucket} ({self.control.region})") from None
        return HeadVersion(parse_head(body, disk_id, f"{self.control.bucket}/{key}"), info.etag)

    def entries(self, known: Mapping[str, HeadEntry] | None = None) -> Iterator[HeadEntry]:
        """Every record, in order of disk id, malformed ones too. `known` (by disk id) saves reading what is unchanged.

        Complete or an error: a page or a record that cannot be read raises. A record deleted meanwhile is left out.
        """
        infos = list(self.control.list(keys.HEADS))
        with ThreadPoolExecutor(READERS) as pool:
            for entry in pool.map(lambda info: self._entry(info, known or {}), infos):
                if entry is not None:
                    yield entry

    def list(self) -> list[HeadVersion]:
        """Every record. Complete or an error: Permanent if one is malformed, for it might refer to anything."""
        found = []
        for entry in self.entries():
            if entry.head is None:
                raise Permanent(f"head {entry.disk_id}: {entry.problem}")
            found.append(HeadVersion(entry.head, entry.etag))
        return found

    def create(self, head: Head) -> HeadVersion:
        """Write the first record of a disk. PreconditionFailed if the disk exists (unless this attempt wrote it)."""
        check_disk_id(head.disk_id)
        attempt = head.attempt_id or new_attempt_id()
        now = clock.now().isoformat()
        first = replace(head, generation=1, attempt_id=attempt, trail=(attempt,), updated_at=now)
        return self._write(first, lambda key, body: self.control.put_new(key, body))

    def swap(self, version: HeadVersion, attempt_id: str, **changes: object) -> HeadVersion:
        """Replace exactly this version with its `Head.next`. PreconditionFailed if another write came first."""
        changed = version.head.next(attempt_id, clock.now().isoformat(), **changes)
        return self._write(changed, lambda key, body: self.control.put_if_match(key, body, version.etag))

    def start(
        self,
        disk_id: str,
        host: str,
        qmp: str | None = None,
        attempt_id: str | None = None,
        overlay: str | None = None,
        tip: str | None = None,
    ) -> HeadVersion:
        """A VM starts: running, whatever lease is there (it is cleared, so its holder's next write fails).

        Wins at once: a lost compare-and-swap is tried again. Refused (`disk_running`, `snapshot_head`; `head_moved` if
        the tip is not `tip`). Calling again with the same attempt id is a no-op.
        """
        attempt = attempt_id or new_attempt_id()

        def change(now: HeadVersion) -> HeadVersion:
            if now.head.state == "running" and now.head.attempt_id == attempt:
                return now
            check_startable(now.head)
            _check_tip(now.head, tip)
            return self.swap(now, attempt, state="running", host=host, qmp=qmp, overlay=overlay, sealed=(), lease=None)

        return self._until_won(disk_id, change)

    def stop(
        self, disk_id: str, tip: str | None = None, virtual_size: int | None = None, attempt_id: str | None = None
    ) -> HeadVersion:
        """The VM ended: idle; with `tip` (already uploaded) the head swings to it. Refused (`disk_idle`)."""
        attempt = attempt_id or new_attempt_id()

        def change(now: HeadVersion) -> HeadVersion:
            if now.head.state == "idle" and now.head.attempt_id == attempt:
                return now
            check_stoppable(now.head)
            size = now.head.virtual_size if virtual_size is None else virtual_size
            gone = {"host": None, "qmp": None, "overlay": None, "sealed": (), "stream_base": None}
            return self.swap(now, attempt, state="idle", tip=tip or now.head.tip, virtual_size=size, **gone)

        return self._until_won(disk_id, change)

    def clone(
        self, disk_id: str, new_disk_id: str, kind: HeadKind = "disk", home_region: str | None = None
    ) -> HeadVersion:
        """A second head on the same tip; of a running disk: on what was last uploaded. Refused (`disk_exists`)."""
        source = self.read(disk_id).head
        copy = Head(
            disk_id=new_disk_id,
            tip=source.tip,
            kind=kind,
            home_region=home_region or source.home_region,
            virtual_size=source.virtual_size,
        )
        try:
            return self.create(copy)
        except PreconditionFailed:
            raise Refused("disk_exists", f"disk {new_disk_id} is there already") from None

    def acquire_lease(
        self, disk_id: str, action_id: str, attempt_id: str, seconds: float, tip: str | None = None
    ) -> HeadVersion:
        """Take the right to change the head. Refused (`disk_running`, `leased`, `head_moved` if the tip is not `tip`).

        An expired lease, or one of the same action, is taken over. Keep the answer: its ETag is what
        `renew` and `publish` are fenced by.
        """

        def change(now: HeadVersion) -> HeadVersion:
            at = self.control.now()
            check_leasable(now.head, action_id, at)
            _check_tip(now.head, tip)
            return self.swap(now, attempt_id, lease=_lease(now.head, action_id, attempt_id, at, seconds))

        return self._until_won(disk_id, change)

    def renew(self, held: HeadVersion, seconds: float) -> HeadVersion:
        """Push the lease's expiry out. PreconditionFailed if the head changed since: the work is lost, stop it."""
        lease = check_held(held.head)
        fresh = _lease(held.head, lease.action_id, lease.attempt_id, self.control.now(), seconds)
        return self.swap(held, lease.attempt_id, lease=fresh)

    def publish(self, held: HeadVersion, tip: str, virtual_size: int | None = None) -> HeadVersion:
        """Swing the head to a proved tip and drop the lease, in one conditional write.

        PreconditionFailed: a VM start, another attempt or a later action came first; the result must be thrown away.
        An expired lease that nobody took still publishes: the condition is the proof that nothing changed.
        """
        lease = check_held(held.head)
        if not LAYER_ID.fullmatch(tip):
            raise ConfigError(f"disk {held.head.disk_id}: {tip!r} is no layer id")
        size = held.head.virtual_size if virtual_size is None else virtual_size
        return self.swap(held, lease.attempt_id, tip=tip, lease=None, action_id=lease.action_id, virtual_size=size)

    def withdraw(self, held: HeadVersion) -> bool:
        """Give the lease back, if it is still ours. Can no write of this attempt swing the head any more?

        A publish that was interrupted may still be on its way: it carries an ETag, and the write that takes the lease
        away makes that one stale. So only after True may what was to be published be deleted. The write has an id of
        its own: under the attempt's, one that was lost to our own publish would read back as done.
        """
        lease = check_held(held.head)

        def change(now: HeadVersion) -> bool:
            if now.head.lease is not None and now.head.lease.attempt_id == lease.attempt_id:
                self.swap(now, new_attempt_id(), lease=None)
                return True
            return now.head.writer_of(held.head.generation + 1) not in {None, lease.attempt_id}

        return until_won()(lambda: change(self.read(held.head.disk_id)))

    def _until_won(self, disk_id: str, change: Callable[[HeadVersion], HeadVersion]) -> HeadVersion:
        return until_won()(lambda: change(self.read(disk_id)))

    def _write(self, head: Head, put: Callable[[str, bytes], str]) -> HeadVersion:
        """Send; judge a lost answer; send again while nothing was applied."""
        key, body = keys.head(head.disk_id), render_head(head)
        try:
            return until_settled()(self._send, head, key, body, put)
        except Transient as error:  # still not applied: a request on its way might yet be
            raise OutcomeUnknown(f"head {head.disk_id}: no answer to the write, not applied so far: {error}") from None

    def _send(self, head: Head, key: str, body: bytes, put: Callable[[str, bytes], str]) -> HeadVersion:
        try:
            return HeadVersion(head, put(key, body))
        except (PreconditionFailed, Transient) as error:
            return self._settle(head, error)

    def _settle(self, head: Head, error: ChainwrightError) -> HeadVersion:
        try:
            current = self.read(head.disk_id)
        except NotFound:
            if not isinstance(error, _REPEATED):
                raise PreconditionFailed(f"head {head.disk_id}: deleted meanwhile") from None
            raise Transient(str(error)) from None
        except ChainwrightError as unreadable:
            raise OutcomeUnknown(f"head {head.disk_id}: written or not? {error}; then {unreadable}") from None
        fate = fate_of_write(head, current.head)
        if fate == "mine":
            return current if current.head.generation == head.generation else HeadVersion(head, _SUPERSEDED)
        if fate == "unknown":
            raise OutcomeUnknown(f"head {head.disk_id}: too many writes since generation {head.generation}")
        if fate == "pending" and isinstance(error, _REPEATED):
            raise Transient(str(error)) from None
        raise PreconditionFailed(
            f"head {head.disk_id}: generation {current.head.generation} was written by another"
        ) from None

    def _entry(self, info: ObjectInfo, known: Mapping[str, HeadEntry]) -> HeadEntry | None:
        disk_id = info.key.removeprefix(keys.HEADS).removesuffix(".json")
        old = known.get(disk_id)
        if old is not None and old.etag == info.etag:
            return old
        try:
            body, now = self.control.get(info.key)
        except NotFound:
            return None
        try:
            head = parse_head(body, disk_id, f"{self.control.bucket}/{info.key}")
        except Permanent as error:
            return HeadEntry(disk_id, now.etag, now.last_modified, None, str(error))
        return HeadEntry(disk_id, now.etag, now.last_modified, head)


def check_disk_id(disk_id: str) -> str:
    """The id itself; ConfigError if it cannot name a disk."""
    if not DISK_ID.fullmatch(disk_id):
        raise ConfigError(f"{disk_id!r} is no disk id: letters, digits, dot, dash and underscore, at most 200")
    return disk_id


def render_head(head: Head) -> bytes:
    """The record's bytes."""
    return json.dumps(head_to_json(head), indent=1).encode()


def parse_head(body: bytes, disk_id: str, where: str) -> Head:
    """Permanent, naming where, if the bytes are not a record of this disk."""
    try:
        raw = json.loads(body)
        head = head_from_json(raw)
        problem = _problem(head, disk_id)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise Permanent(f"{where}: malformed head record: {problem}")
    return head


def _problem(head: Head, disk_id: str) -> str:
    checks = {
        f"is of disk {head.disk_id!r}": head.disk_id == disk_id,
        f"tip {head.tip!r} is no layer id": isinstance(head.tip, str) and LAYER_ID.fullmatch(head.tip) is not None,
        f"kind {head.kind!r}": head.kind in {"disk", "snapshot"},
        f"state {head.state!r}": head.state in {"idle", "running"},
        f"generation {head.generation!r}": isinstance(head.generation, int) and head.generation > 0,
        f"virtual_size {head.virtual_size!r}": isinstance(head.virtual_size, int) and head.virtual_size >= 0,
    }
    return next((text for text, good in checks.items() if not good), "")


def _check_tip(head: Head, tip: str | None) -> None:
    if tip is not None and head.tip != tip:
        raise Refused("head_moved", f"disk {head.disk_id}: tip is {head.tip}, not {tip}")


def _lease(head: Head, action_id: str, attempt_id: str, now: datetime.datetime, seconds: float) -> Lease:
    expires = (now + datetime.timedelta(seconds=seconds)).isoformat()
    return Lease(action_id, attempt_id, expires, head.generation + 1)
