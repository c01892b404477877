"""A whole small site for a test: three regions, chains spread over them with heads and a manifest, one cache."""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.cache.export import ChainLayer
from tasks.chain.head import Head
from tasks.embedded.s3 import S3Server
from tasks.inventory import manifest
from tasks.settings import Fleet
from tasks.stages import inventory
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store, open_store
from tasks.store.heads import HeadStore
from tests.conftest import make_fleet
from tests.support.cache_server import CacheServer, running_cache
from tests.support.chains import Chain
from tests.support.exporter import exporter, guest_bytes, opened_chain


@dataclass(slots=True)
class Site:
    fleet: Fleet
    cache: CacheServer
    stores: dict[str, ObjectStore]
    folder: Path
    uploaded: dict[str, ChainLayer] = field(default_factory=dict)  # by layer id

    def add_disk(
        self,
        disk_id: str,
        chain: Chain,
        *,
        regions: Sequence[str] = ("eu-west", "ap-south"),
        home: str = "us-east",
    ) -> None:
        """Upload the layers that are not there yet, in turn to the regions, and write the head."""
        for number, layer in enumerate(chain.layers):
            if layer not in self.uploaded:
                region = regions[number % len(regions)]
                body = chain.path(layer).read_bytes()
                etag = self.stores[region].put_new(keys.layer(layer), body)
                self.uploaded[layer] = ChainLayer(layer, region, len(body), etag)
        HeadStore(self.stores["us-east"]).create(Head(disk_id, chain.tip, "disk", home))

    def scan(self) -> None:
        inventory.run_inventory(self.fleet)

    def read_disk(self, disk_id: str, chain: Chain, *, with_chain_file: bool = True) -> str:
        """Hash of the guest view that a host of the cache's region reads, with nothing in the host's memory."""
        layers = [self.uploaded[layer] for layer in chain.layers]
        with (
            exporter(self.cache.url, {disk_id: layers} if with_chain_file else {}) as nbd,
            opened_chain(chain.layers, disk_id, nbd.socket) as uri,
        ):
            return hashlib.sha256(guest_bytes(uri, self.folder / "guest")).hexdigest()

    def fetched_slices(self) -> list[tuple[str, int]]:
        """(layer, slice) of every request that reached a store, in order."""
        found = []
        for line in self.cache.log():
            if line["cache"] == "MISS" and line["upstream_status"]:
                first = (line["slice"] if not line["main"] else line["range"]).removeprefix("bytes=").split("-")[0]
                found.append((line["layer"], int(first) >> 21))
        return found

    def rows(self, dataset: str) -> list[dict[str, Any]]:
        control = control_store(self.fleet)
        snapshot = manifest.current_snapshot(control)
        assert snapshot is not None
        folder = manifest.stage(control, snapshot, self.folder / "stage")
        return [row for path in sorted((folder / dataset).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@contextlib.contextmanager
def running_site(server: S3Server, *, origins: dict[str, str] | None = None, **cache: Any) -> Iterator[Site]:
    """`origins`: region -> host:port by which the cache (and nobody else) reaches that region's store."""
    with tempfile.TemporaryDirectory(prefix="cws-", dir="/var/tmp") as folder:
        plain = make_fleet(server, Path(folder) / "work")
        far = {name: {"endpoint": f"http://{address}"} for name, address in (origins or {}).items()}
        seen = tuple(one.model_copy(update=far.get(one.name, {})) for one in plain.regions)
        with running_cache(plain.model_copy(update={"regions": seen}), "us-east", **cache) as running:
            update = {"cache_url": running.url, "cache_log": str(running.access_log)}
            regions = tuple(one.model_copy(update=update if one.name == "us-east" else {}) for one in plain.regions)
            fleet = plain.model_copy(update={"regions": regions})
            stores = {one.name: open_store(one) for one in fleet.regions}
            yield Site(fleet, running, stores, Path(folder))
