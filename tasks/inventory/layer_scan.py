"""One listed object to its row and extents: names, fetching, the reader. What goes wrong becomes a refused row."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from tasks.chain import qcow2_reasons as why
from tasks.chain.extent import Extents
from tasks.chain.layer import LayerFacts, layer_id_of
from tasks.chain.qcow2_layout import Limits
from tasks.chain.qcow2_names import NameRules
from tasks.chain.qcow2_ranges import Block, ByteRange
from tasks.chain.qcow2_reader import Qcow2Reader
from tasks.errors import NotFound, Permanent, PreconditionFailed, Refused, Transient
from tasks.inventory.fetch import RangeSource
from tasks.inventory.rows import REFUSED, ExtentSums, layer_row, raw_extents, raw_facts
from tasks.store import keys
from tasks.store.base import ObjectInfo
from tasks.units import MIB

logger = logging.getLogger(__name__)

# Refusals that say nothing of the layer's bytes: tried again by the next scan although key and ETag are the same.
PASSING_REASONS = (why.UNREADABLE, why.CHANGED, why.SHORT_READ, why.READER_ERROR, why.DUPLICATE_ID)

# Steps that fetch more than this wait for each other: their tables and the numpy temporaries take ten times as much.
HEAVY_BYTES = 4 * MIB
HEAVY_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class ScanRules:
    """What the fleet's policy says to the scan."""

    raw_keys: frozenset[str] = frozenset()  # object keys of raw images that are accepted as bases
    limits: Limits = field(default_factory=Limits)

    def names(self, file_name: str) -> NameRules:
        """The reader's rules for the object of that file name."""
        return NameRules(raw_bases=frozenset(map(file_name_of, self.raw_keys)), own_name=file_name)


@dataclass(slots=True)
class Effort:
    """Requests and bytes that a scan cost, for the result and the benchmarks."""

    requests: int = 0
    bytes: int = 0


def file_name_of(key: str) -> str:
    """The name by which children refer to an object."""
    return key.rsplit("/", 1)[-1]


def scan_layer(
    item: ObjectInfo,
    region: str,
    rules: ScanRules,
    fetch: "Fetcher",
    keep: Callable[[Extents], None],
) -> dict[str, Any] | None:
    """The row of one object; its extents go to `keep`, batch by batch, in guest order.

    If the row's status is not ok, what was kept must be thrown away. None if the object is gone. Never raises for
    anything that is wrong with this one object.
    """
    name = file_name_of(item.key)
    layer_id = layer_id_of(name)
    sums = ExtentSums()
    if item.key in rules.raw_keys:
        extents = raw_extents(item.size)
        sums.add(extents)
        keep(extents)
        return layer_row(item, region, name, raw_facts(item.size), None, sums)
    if layer_id is None or item.key != keys.layer(layer_id):
        return _refused(item, region, name, Refused(why.BAD_NAME, f"{item.key!r} is not the name of a layer"))
    reader = Qcow2Reader(item.size, rules.names(name), rules.limits)
    try:
        while reader.wants:
            with fetch.room(reader.wants):
                batches = reader.feed(fetch(item, reader.wants))
            for batch in batches:
                sums.add(batch)
                keep(batch)
    except NotFound:
        return None
    except PreconditionFailed as error:
        return _refused(item, region, layer_id, Refused(why.CHANGED, str(error)))
    except (Transient, Permanent) as error:
        return _refused(item, region, layer_id, Refused(why.UNREADABLE, str(error)))
    if reader.facts.status != "ok":
        logger.info("region=%s layer=%s refused: %s", region, layer_id, reader.facts.reason)
        sums = ExtentSums()
    return layer_row(item, region, layer_id, reader.facts, _backing_id(reader.facts), sums)


def _refused(item: ObjectInfo, region: str, layer_id: str, error: Refused) -> dict[str, Any]:
    logger.info("region=%s key=%s refused: %s", region, item.key, error.reason)
    facts = LayerFacts(status=REFUSED, reason=error.reason, detail=error.text)
    return layer_row(item, region, layer_id, facts, None, ExtentSums())


def _backing_id(facts: LayerFacts) -> str | None:
    """The parent's layer id; a name that is none of ours is kept as it is and will dangle."""
    if facts.backing_file is None:
        return None
    return layer_id_of(facts.backing_file) or facts.backing_file


class Fetcher:
    """Reads the ranges that a reader wants, in parallel on a pool that all layers of a scan share."""

    def __init__(self, source: RangeSource, pool: ThreadPoolExecutor) -> None:
        self._source = source
        self._pool = pool
        self._heavy = threading.Semaphore(HEAVY_AT_ONCE)

    def room(self, wanted: Sequence[ByteRange]) -> AbstractContextManager[Any]:
        """Hold while the ranges are fetched and decoded: bounds the memory of many large layers at once."""
        heavy = sum(part.length for part in wanted) > HEAVY_BYTES
        return self._heavy if heavy else nullcontext()

    def __call__(self, item: ObjectInfo, wanted: Sequence[ByteRange]) -> list[Block]:
        """The bytes of each range. Raises the first range's error."""
        if len(wanted) == 1:
            return [self._read(item, wanted[0])]
        return list(self._pool.map(lambda part: self._read(item, part), wanted))

    def _read(self, item: ObjectInfo, part: ByteRange) -> Block:
        return self._source.read(item.key, part.start, part.length, item.etag)


class CountingSource:
    """A source that counts. Additions under the interpreter's lock are close enough for figures of effort."""

    def __init__(self, source: RangeSource) -> None:
        self._source = source
        self.effort = Effort()

    def read(self, key: str, start: int, length: int, etag: str) -> Block:
        """Passes on, counts requests and bytes."""
        body = self._source.read(key, start, length, etag)
        self.effort.requests += 1
        self.effort.bytes += len(body)
        return body
