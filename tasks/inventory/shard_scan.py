"""Scan one shard: list, compare, read what is new, leave a part for `publish`."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import clock, retry
from tasks.chain import qcow2_reasons as why
from tasks.chain.layer import LayerFacts
from tasks.errors import PreconditionFailed
from tasks.inventory import parquet, staging
from tasks.inventory.fetch import RangeSource
from tasks.inventory.layer_scan import CountingSource, Fetcher, ScanRules, file_name_of, scan_layer
from tasks.inventory.manifest import STAGING
from tasks.inventory.parts import PartFiles, PartWriter
from tasks.inventory.rows import REFUSED, ExtentSums, layer_row
from tasks.inventory.schema import LAYERS
from tasks.inventory.shards import Shard, fingerprint, known_objects, list_shard
from tasks.inventory.snapshot import Snapshot
from tasks.store.base import ObjectInfo, ObjectStore

logger = logging.getLogger(__name__)

LAYER_THREADS = 32  # layers that are read at once: hides a store's latency; a thread holds 2 MiB and a few more
RANGE_THREADS = 32  # ranges of large layers that are fetched at once, all layers together
_DIFF_COLUMNS = ("region", "key", "etag", "status", "reason", "version", "backing_format")


def scan_shard(
    shard: Shard,
    store: ObjectStore,
    source: RangeSource,
    control: ObjectStore,
    snapshot: Snapshot | None,
    rules: ScanRules,
    work_dir: Path,
) -> dict[str, Any]:
    """Small JSON: what was found, what it cost, and the keys of the part in the control bucket.

    Raises the store's errors if the listing or the upload of the part fails; a layer's own errors are rows.
    """
    started = clock.monotonic()
    listed_at = clock.now().isoformat()
    known = known_objects(last_layers(control, snapshot, shard.region, work_dir), shard, _rules_of(snapshot), rules)
    listed = _listing(store, shard)
    new = [item for item in listed if known.get(item.key) != (item.etag, True)]
    gone = sorted(known.keys() - {item.key for item in listed})
    counting = CountingSource(source)
    result: dict[str, Any] = {
        **shard.to_json(),
        "rules": fingerprint(rules),
        "listed_at": listed_at,
        "objects": len(listed),
        "new": len(new),
        "gone": len(gone),
        "refused": 0,
        "parts": [],
    }
    if new or gone:
        with staging.scratch(work_dir, "scan") as folder:
            files = _read_layers(new, gone, shard.region, rules, counting, folder)
            result["refused"] = _count_refused(files)
            result["parts"] = _upload(control, shard, files)
    staging.tidy(work_dir / "manifests")
    effort = counting.effort
    seconds = round(clock.monotonic() - started, 3)
    logger.info("region=%s shard=%s/%s new=%s gone=%s", shard.region, shard.number, shard.of, len(new), len(gone))
    return {**result, "requests": effort.requests, "bytes": effort.bytes, "seconds": seconds}


def last_layers(control: ObjectStore, snapshot: Snapshot | None, region: str, work_dir: Path) -> pa.Table:
    """What the last snapshot has of the region's layers: the columns that tell what is new."""
    refs = [ref for ref in snapshot.datasets.get("layers", ()) if ref.region == region] if snapshot else []
    paths = staging.fetch_files(control, refs, work_dir / "manifests")
    tables = [pq.read_table(path, columns=list(_DIFF_COLUMNS)) for path in paths.values()]
    empty = pa.schema([LAYERS.field(name) for name in _DIFF_COLUMNS]).empty_table()
    return pa.concat_tables([empty, *tables], promote_options="default")


def _rules_of(snapshot: Snapshot | None) -> str:
    return snapshot.rules if snapshot else ""


def _listing(store: ObjectStore, shard: Shard) -> list[ObjectInfo]:
    """The whole listing, begun anew if a page fails for good."""
    for attempt in retry.store_call():
        with attempt:
            return list(list_shard(store, shard))
    raise AssertionError


def _read_layers(
    new: Sequence[ObjectInfo], gone: list[str], region: str, rules: ScanRules, source: RangeSource, folder: Path
) -> PartFiles:
    writer = PartWriter(folder)
    with ThreadPoolExecutor(LAYER_THREADS) as layers, ThreadPoolExecutor(RANGE_THREADS) as ranges:
        fetch = Fetcher(source, ranges)
        # map's results are taken as they come, so that an interrupt is not held up by a long queue
        for _ in layers.map(lambda item: _read_one(item, region, rules, fetch, writer), new):
            pass
    return writer.close(gone)


def _read_one(item: ObjectInfo, region: str, rules: ScanRules, fetch: Fetcher, writer: PartWriter) -> None:
    spool = writer.spool()
    try:
        row = scan_layer(item, region, rules, fetch, spool.keep)
    except OSError:  # the work directory (a source's are store errors): it says nothing of the layer
        raise
    except Exception as error:  # one broken object never stops the rest, not even by a fault of ours
        logger.exception("region=%s key=%s: the reader failed", region, item.key)
        facts = LayerFacts(status=REFUSED, reason=why.READER_ERROR, detail=f"{type(error).__name__}: {error}"[:300])
        row = layer_row(item, region, file_name_of(item.key).removesuffix(".qcow2"), facts, None, ExtentSums())
    writer.add(row, spool)


def _count_refused(files: PartFiles) -> int:
    status: list[str] = pq.read_table(files.layers, columns=["status"])["status"].to_pylist()
    return status.count(REFUSED)


def _upload(control: ObjectStore, shard: Shard, files: PartFiles) -> list[dict[str, Any]]:
    """Put the part into the control bucket. A retry of the task writes under another name."""
    prefix = f"{STAGING}{shard.scan_id}/{shard.region}-{shard.number}-{clock.now():%H%M%S%f}"
    named = [("layers", 0, files.layers), ("extents", 0, files.extents), ("gone", 0, files.gone)]
    named += [("extents", number, path) for number, path in files.large]
    parts = []
    for kind, number, path in named:
        rows = pq.ParquetFile(path).metadata.num_rows
        if not rows:
            continue
        key = f"{prefix}.{kind}-{number}.parquet"
        _upload_once(control, key, path)
        ref = {"key": key, "bytes": path.stat().st_size, "rows": rows, "sha256": parquet.sha256_of(path)}
        parts.append({"kind": kind, "number": number, "ref": ref})
    return parts


def _upload_once(control: ObjectStore, key: str, path: Path) -> None:
    for attempt in retry.store_call():
        with attempt:
            try:
                control.upload_file(key, path)
            except PreconditionFailed:
                if control.info(key).size != path.stat().st_size:  # else: our own first try, whose answer was lost
                    raise
