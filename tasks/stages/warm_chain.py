"""The chain that is to be warmed: layers and extents from the manifest, tables from the layers themselves.

A tip (or more layers) that no manifest has yet is walked by the names in the headers until a known layer comes.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from tasks.analytics.duck import open_manifest
from tasks.analytics.planner_inputs import extents_of
from tasks.analytics.queries import run_arrow
from tasks.analytics.sqlfiles import load
from tasks.cache.slices import ChainLayer
from tasks.cache.tables import FIRST_BYTES, LayerTables, Read, read_tables
from tasks.cache.windows import FreshLayer, windows_of
from tasks.chain.extent import Extents, clip
from tasks.chain.head import Head
from tasks.chain.layer import layer_id_of
from tasks.chain.qcow2_layout import parse_extensions, parse_header
from tasks.chain.qcow2_names import NameRules, backing_of
from tasks.errors import NotFound, Refused
from tasks.inventory.manifest import current_snapshot, stage
from tasks.settings import Fleet
from tasks.stages.boot_trace import boot_trace
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store
from tasks.store.layers import find_layer

_MAX_LAYERS = 10_000
_THREADS = 32


@dataclass(frozen=True, slots=True)
class LayerAt:
    """A layer and where it is. `number` is the manifest's, None for one that no manifest has."""

    layer_id: str
    region: str
    size_bytes: int
    number: int | None


@dataclass(slots=True)
class WarmChain:
    """Tip first. `boot` are (layer id, slice) in the order of the last starts; `heat` requests by layer id."""

    disk_id: str
    layers: list[LayerAt]
    extents: dict[int, Extents]
    boot: list[tuple[str, int]] = field(default_factory=list)
    heat: dict[str, int] = field(default_factory=dict)
    pressure: list[tuple[int, int]] = field(default_factory=list)  # (days ago, bytes into the region's cache)
    disk_days_ago: float | None = None  # since the disk was last read in the region
    disk_bytes: int = 0

    @property
    def fresh(self) -> list[LayerAt]:
        """Layers that no manifest has."""
        return [layer for layer in self.layers if layer.number is None]


def load_chain(fleet: Fleet, stores: dict[str, ObjectStore], head: Head, region: str) -> WarmChain:
    """What is known of the head's chain. Refused: a layer is missing or was refused by the inventory."""
    control = control_store(fleet)
    snapshot = current_snapshot(control)
    if snapshot is None:
        return WarmChain(head.disk_id, _walk(stores, head, None), {})
    folder = stage(control, snapshot, Path(fleet.work_dir) / "manifests")
    with open_manifest(folder) as connection:
        layers = _walk(stores, head, connection)
        numbers = [layer.number for layer in layers if layer.number is not None]
        chain = WarmChain(head.disk_id, layers, extents_of(connection, numbers))
        _add_history(chain, connection, region)
    return chain


def _add_history(chain: WarmChain, connection: duckdb.DuckDBPyConnection, region: str) -> None:
    chain.boot = boot_trace(connection, chain.disk_id)
    ids = [layer.layer_id for layer in chain.layers]
    heat = run_arrow(connection, load("plan", "warm_heat"), {"layer_ids": ids})
    chain.heat = dict(zip(heat["layer_id"].to_pylist(), heat["requests"].to_pylist(), strict=True))
    asked = {"region": region, "disk_id": chain.disk_id}
    rows = run_arrow(connection, load("plan", "warm_pressure"), asked).to_pylist()
    chain.pressure = [(row["days_ago"], row["fetched_bytes"]) for row in rows]
    chain.disk_days_ago = next((row["disk_days_ago"] for row in rows), None)


def _walk(stores: dict[str, ObjectStore], head: Head, connection: duckdb.DuckDBPyConnection | None) -> list[LayerAt]:
    """From the tip: layers that are not in the manifest one by one, then the known rest at once."""
    layers: list[LayerAt] = []
    layer_id: str | None = head.tip
    while layer_id is not None:
        known = _known(connection, layer_id)
        if known:
            return layers + known
        if len(layers) >= _MAX_LAYERS or layer_id in {layer.layer_id for layer in layers}:
            raise Refused("backing_cycle", f"disk {head.disk_id}: layer {layer_id} comes twice in its chain")
        found = find_layer(stores, layer_id, layers[-1].region if layers else head.home_region)
        if found is None:
            raise Refused("layer_missing", f"disk {head.disk_id}: layer {layer_id} is in no region of this fleet")
        layers.append(LayerAt(layer_id, found.region, found.info.size, None))
        layer_id = _backing(stores[found.region], layer_id, found.info.size)
    return layers


def _known(connection: duckdb.DuckDBPyConnection | None, layer_id: str) -> list[LayerAt]:
    if connection is None:
        return []
    rows = run_arrow(connection, load("plan", "warm_chain"), {"layer_id": layer_id}).to_pylist()
    for row in rows:
        if row["status"] != "ok" or (row["backing_layer_id"] and row["parent_no"] is None):
            reason = row["reason"] or row["status"] if row["status"] != "ok" else "missing_backing"
            raise Refused(reason, f"layer {row['layer_id']} of the chain of {layer_id} cannot be read")
    if len(rows) > _MAX_LAYERS:
        raise Refused("backing_cycle", f"the chain of layer {layer_id} does not end")
    return [LayerAt(row["layer_id"], row["region"], row["size_bytes"], row["layer_no"]) for row in rows]


def _backing(store: ObjectStore, layer_id: str, size: int) -> str | None:
    block = store.get_range(keys.layer(layer_id), 0, min(size, FIRST_BYTES))
    header = parse_header(block)
    extensions = parse_extensions(block, header)
    found = backing_of(block, header, extensions.backing_format, NameRules(own_name=f"{layer_id}.qcow2"))
    backing = layer_id_of(found[0]) if found else None
    if found and backing is None:
        raise Refused("backing_name", f"layer {layer_id}: backing file {found[0]!r} is no layer")
    return backing


Reader = Callable[[LayerAt], Read]


def read_all_tables(chain: WarmChain, reader: Reader) -> list[LayerTables]:
    """Header and L1 of every layer, in parallel. Refused if one is unsound."""
    with ThreadPoolExecutor(min(_THREADS, len(chain.layers))) as pool:
        tables = list(pool.map(lambda layer: _tables_of(layer, reader), chain.layers))
    chain.disk_bytes = tables[0].header.virtual_size
    return tables


def _tables_of(layer: LayerAt, reader: Reader) -> LayerTables:
    try:
        return read_tables(layer.size_bytes, reader(layer))
    except Refused as error:
        raise Refused(error.reason, f"layer {layer.layer_id} in {layer.region}: {error.text}") from None
    except NotFound:
        raise Refused("layer_missing", f"layer {layer.layer_id} is not in {layer.region} any more") from None


def windows(
    chain: WarmChain, tables: Sequence[LayerTables], reader: Reader
) -> Iterator[tuple[tuple[int, int], list[ChainLayer]]]:
    """The chain window by window: one window if the manifest has every layer, else bounded ones, the deepest first."""
    known = {
        layer.layer_id: ChainLayer(layer.layer_id, layer.region, layer.size_bytes, chain.extents[layer.number], one)
        for layer, one in zip(chain.layers, tables, strict=True)
        if layer.number is not None
    }
    fresh = {
        layer.layer_id: FreshLayer(layer.layer_id, layer.region, one, reader(layer))
        for layer, one in zip(chain.layers, tables, strict=True)
        if layer.number is None
    }
    for window in windows_of(list(fresh.values()), chain.disk_bytes):
        yield (
            window,
            [
                fresh[layer.layer_id].at(window) if layer.number is None else _cut(known[layer.layer_id], window)
                for layer in chain.layers
            ],
        )


def _cut(layer: ChainLayer, window: tuple[int, int]) -> ChainLayer:
    return ChainLayer(layer.layer_id, layer.region, layer.size_bytes, clip(layer.extents, *window), layer.tables)
