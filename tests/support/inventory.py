"""A small fleet of buckets in memory, scanned and published by the product's own code."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.inventory import manifest, parquet, publish, shard_scan, shards
from tasks.inventory.fetch import RangeSource, StoreSource
from tasks.inventory.layer_scan import ScanRules
from tasks.inventory.schema import DATASETS
from tasks.inventory.snapshot import Snapshot
from tasks.store import keys
from tests.fakes.store import MemoryStore


@dataclass
class Fleet:
    """Regions in memory; the first bucket is not the control bucket, that is `control`."""

    work: Path
    regions: tuple[str, ...] = ("us-east", "eu-west")
    rules: ScanRules = field(default_factory=ScanRules)
    control: Any = field(default_factory=lambda: MemoryStore("us-east", "control"))
    stores: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, RangeSource] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stores = {name: MemoryStore(name, name) for name in self.regions}

    def put(self, region: str, files: dict[str, bytes]) -> None:
        """Upload layers by file name."""
        for name, body in files.items():
            self.stores[region].put_new(f"{keys.LAYERS}{name}", body)

    def scan_region(self, region: str) -> list[dict[str, Any]]:
        """Results of all of a region's shards."""
        store, snapshot = self.stores[region], self.snapshot()
        source = self.sources.get(region, StoreSource(store))
        return [
            shard_scan.scan_shard(shard, store, source, self.control, snapshot, self.rules, self.work)
            for shard in shards.plan_shards(region, store, snapshot, shards.new_scan_id())
        ]

    def publish(self, results: list[dict[str, Any]]) -> Snapshot:
        """The new snapshot."""
        return publish.publish(self.control, results, self.regions, self.work)

    def scan(self) -> Snapshot:
        """Everything."""
        return self.publish([result for region in self.regions for result in self.scan_region(region)])

    def snapshot(self) -> Snapshot | None:
        """The current one."""
        return manifest.current_snapshot(self.control)

    def table(self, dataset: str) -> pa.Table:
        """A dataset of the current snapshot, as staged."""
        snapshot = self.snapshot()
        assert snapshot is not None
        folder = manifest.stage(self.control, snapshot, self.work / "staged")
        return parquet.read_files(sorted((folder / dataset).glob("*.parquet")), DATASETS[dataset])

    def layers(self) -> dict[str, dict[str, Any]]:
        """Rows of `layers` by id."""
        return {row["layer_id"]: row for row in self.table("layers").to_pylist()}

    def extents(self) -> dict[str, list[tuple[int, ...]]]:
        """Extents of living layers by layer id, in the file's order."""
        names = {row["layer_no"]: row["layer_id"] for row in self.layers().values() if row["status"] == "ok"}
        found: dict[str, list[tuple[int, ...]]] = {name: [] for name in names.values()}
        for number, *extent in zip(*(column.to_pylist() for column in self.table("extents").columns), strict=True):
            if number in names:
                found[names[number]].append(tuple(extent))
        return found
