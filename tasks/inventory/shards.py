"""A region's keys, cut into ranges that are scanned apart: by listing, comparing with the last snapshot, reading."""

import hashlib
import itertools
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.chain.qcow2_names import FORMAT_RAW
from tasks.errors import ConfigError
from tasks.inventory.layer_scan import PASSING_REASONS, ScanRules
from tasks.inventory.rows import MISSING, OK
from tasks.inventory.snapshot import Snapshot
from tasks.settings import Fleet
from tasks.store import keys
from tasks.store.base import ObjectInfo, ObjectStore

SHARD_OBJECTS = 50_000  # per task: half a minute of listing on a slow store, and a bounded table in memory
MAX_SHARDS = 64  # per region
_PAGE = 1000
_SPACE = 1 << 32  # shards split the first 8 hex digits of the (random) layer ids evenly
READER_VERSION = 2  # raise it when the reader decides or decodes differently: everything is read anew


@dataclass(frozen=True, slots=True)
class Shard:
    """The keys `low < key <= high` of a region; `high` None = to the end."""

    scan_id: str
    region: str
    number: int  # from 1
    of: int

    @property
    def low(self) -> str:
        """Key before the first."""
        return _boundary(self.number - 1, self.of) if self.number > 1 else keys.LAYERS

    @property
    def high(self) -> str | None:
        """Last key."""
        return _boundary(self.number, self.of) if self.number < self.of else None

    def to_json(self) -> dict[str, Any]:
        """For Airflow; `name` is what the UI shows."""
        return {**asdict(self), "name": f"{self.region} {self.number}/{self.of}"}


def shard_from_json(raw: dict[str, Any]) -> Shard:
    """The inverse; ConfigError if it is not a shard."""
    try:
        return Shard(str(raw["scan_id"]), str(raw["region"]), int(raw["number"]), int(raw["of"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"not a shard of the inventory: {error}") from None


def _boundary(number: int, of: int) -> str:
    return f"{keys.LAYERS}{_SPACE * number // of:08x}"


def new_scan_id() -> str:
    """Unique; names the folder of the parts."""
    return f"scan-{secrets.token_hex(8)}"


def plan_shards(region: str, store: ObjectStore, snapshot: Snapshot | None, scan_id: str) -> list[Shard]:
    """As many shards as the region's size asks for: by the last snapshot's count, else by the first page's density."""
    known = snapshot.regions.get(region) if snapshot else None
    count = known.objects if known and known.objects else _estimate(store)
    of = min(MAX_SHARDS, max(1, -(-count // SHARD_OBJECTS)))
    return [Shard(scan_id, region, number + 1, of) for number in range(of)]


def _estimate(store: ObjectStore) -> int:
    page = list(itertools.islice(store.list(keys.LAYERS), _PAGE))
    if len(page) < _PAGE:
        return len(page)
    last = page[-1].key.removeprefix(keys.LAYERS)[:8]
    try:
        return _PAGE * _SPACE // max(1, int(last, 16))
    except ValueError:
        return _PAGE  # foreign names: one shard


def list_shard(store: ObjectStore, shard: Shard) -> Iterator[ObjectInfo]:
    """The shard's objects in key order. A listing that fails raises: never a short list."""
    for item in store.list(keys.LAYERS, shard.low):
        if shard.high is not None and item.key > shard.high:
            return
        if not item.key.endswith("/"):  # a folder mark of some stores
            yield item


def fingerprint(rules: ScanRules) -> str:
    """`<reader version>:<digest of the policy>`: what the rows of a snapshot were made with."""
    text = repr((sorted(rules.raw_keys), rules.limits))
    return f"{READER_VERSION}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def known_objects(layers: pa.Table, shard: Shard, made_with: str, rules: ScanRules) -> dict[str, tuple[str, bool]]:
    """By key: the ETag that the last snapshot has, and whether its row may be kept if the ETag is the same."""
    mask = pc.and_(pc.equal(layers["region"], shard.region), pc.not_equal(layers["status"], MISSING))
    mask = pc.and_(mask, pc.greater(layers["key"], shard.low))
    if shard.high is not None:
        mask = pc.and_(mask, pc.less_equal(layers["key"], shard.high))
    rows = layers.filter(mask)
    now = fingerprint(rules)
    same_reader = made_with.split(":")[0] == now.split(":")[0]
    found = {}
    columns = ("key", "etag", "status", "reason", "version", "backing_format")
    for key, etag, status, reason, version, backing in zip(*(rows[name].to_pylist() for name in columns), strict=True):
        by_policy = status != OK or not version or backing == FORMAT_RAW  # the policy may have changed its mind
        keep = same_reader and reason not in PASSING_REASONS and (made_with == now or not by_policy)
        found[key] = (etag, keep)
    return found


def scan_rules(fleet: Fleet) -> ScanRules:
    """What the fleet's policy says to the scan."""
    return ScanRules(raw_keys=frozenset(fleet.policy.raw_bases))
