"""Small random forests of layers, as hypothesis strategies and as manifests on disk."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tasks.inventory.schema import DATASETS

DATA, ZERO, ZERO_ALLOCATED, COMPRESSED = range(4)
SECTOR = 512


@dataclass
class Layer:
    """One layer of a test forest; `parent` is an index, None for a base, -1 for a parent that is not there."""

    parent: int | None
    size: int
    extents: list[tuple[int, int, int, int]] = field(default_factory=list)  # start, length, kind, host_length
    status: str = "ok"


@dataclass
class Forest:
    """Layers by index (layer number = index + `first_no`), and the layers that heads stand on."""

    layers: list[Layer]
    heads: list[int]
    first_no: int = 1


def write_manifest(forest: Forest, directory: Path, order: list[int] | None = None, files: int = 1) -> None:
    """Write layers, extents and heads. `order` gives the layer numbers (default: by index), `files` splits extents."""
    numbers = order or list(range(len(forest.layers)))
    number = [forest.first_no + n for n in numbers]
    layers, extents = [], []
    for index, layer in enumerate(forest.layers):
        layers.append(_layer_row(forest, number, index, layer))
        for start, length, kind, host in layer.extents if layer.status == "ok" else ():
            extents.append((number[index], start, length, kind, -1 if kind == ZERO else start + 65536, host))
    extents.sort()
    heads = [
        {
            "disk_id": f"d{k}",
            "tip_no": number[tip],
            "tip_layer_id": _id(number[tip]),
            "status": "ok",
            "kind": "disk",
            "home_region": "us-east",
        }
        for k, tip in enumerate(forest.heads)
    ]
    _write(directory, "layers", sorted(layers, key=lambda row: row["layer_no"]))
    _write(directory, "heads", heads)
    columns = dict(zip(DATASETS["extents"].names, zip(*extents, strict=True), strict=True)) if extents else {}
    table = pa.table({n: list(columns.get(n, ())) for n in DATASETS["extents"].names}, schema=DATASETS["extents"])
    (directory / "extents").mkdir(parents=True, exist_ok=True)
    step = max(1, -(-table.num_rows // files))
    for k in range(files):
        pq.write_table(table.slice(k * step, step), directory / "extents" / f"part-{k}.parquet")


def _layer_row(forest: Forest, number: list[int], index: int, layer: Layer) -> dict:
    parent = layer.parent
    known = parent is not None and parent >= 0
    return {
        "layer_no": number[index],
        "layer_id": _id(number[index]),
        "region": "us-east",
        "etag": f'"{number[index]}"',
        "status": layer.status,
        "virtual_size": layer.size if layer.status == "ok" else None,
        "parent_no": number[parent] if known else None,
        "backing_layer_id": None if parent is None else _id(number[parent] if known else 9999),
        "extents": len(layer.extents) if layer.status == "ok" else None,
        "compressed_bytes": sum(e[1] for e in layer.extents if e[2] == COMPRESSED) if layer.status == "ok" else None,
        "cluster_bits": 16,
    }


def _id(number: int) -> str:
    return f"{number:032x}"


def _write(directory: Path, dataset: str, rows: list[dict]) -> None:
    schema = DATASETS[dataset]
    table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
    (directory / dataset).mkdir(parents=True, exist_ok=True)
    pq.write_table(table, directory / dataset / "part-0.parquet")


@st.composite
def layer_extents(draw: st.DrawFn, size: int, cluster: int, space: int) -> list[tuple[int, int, int, int]]:
    """Disjoint extents on cluster boundaries within `space` bytes, cut at the layer's size or running past it."""
    clusters = space // cluster
    cuts = sorted(draw(st.sets(st.integers(0, clusters), max_size=8)))
    extents = []
    for low, high in itertools.pairwise(cuts):
        kind = draw(st.sampled_from([None, DATA, DATA, DATA, ZERO, ZERO_ALLOCATED, COMPRESSED]))
        if kind is None or low * cluster >= size:
            continue
        if kind == COMPRESSED and cluster <= 2 << 20:
            starts = [c * cluster for c in range(low, min(high, low + 6)) if c * cluster < size]
            extents += [(s, min(cluster, size - s), kind, draw(st.integers(1, cluster))) for s in starts]
            continue
        length = min((high - low) * cluster, size - low * cluster)
        extents.append((low * cluster, length, kind, 0 if kind == ZERO else length))
    return extents


@st.composite
def forests(draw: st.DrawFn, max_layers: int = 12, troubles: bool = True) -> Forest:
    """Forks, heads anywhere, shrinking and growing disks, mixed clusters, unreadable and missing layers, cycles."""
    count = draw(st.integers(1, max_layers))
    scale = draw(st.sampled_from([1 << 16, 3 << 20, 9 << 20, 40 << 20]))  # within a block, and over several
    base_size = scale + draw(st.sampled_from([0, 0, 512, 4096, 65536]))
    layers = []
    for index in range(count):
        parent = draw(st.one_of(st.none(), st.integers(max(0, index - 3), index - 1))) if index else None
        size = draw(
            st.sampled_from([base_size] * 4 + [base_size // 2 // SECTOR * SECTOR, base_size - SECTOR, base_size * 2])
        )
        cluster = draw(st.sampled_from([512, 2048, 4096, 65536, 65536, 65536, 1 << 18, 2 << 20]))
        cluster = min(cluster, 1 << 16) if size < cluster else cluster
        extents = draw(layer_extents(size, cluster, max(cluster, min(size, scale) // cluster * cluster)))
        layers.append(Layer(parent, size, extents))
    if troubles:
        _add_troubles(draw, layers)
    heads = draw(st.lists(st.integers(0, count - 1), max_size=5))
    return Forest(layers, heads, first_no=draw(st.sampled_from([0, 1, 1000])))


@st.composite
def crowded_forests(draw: st.DrawFn) -> Forest:
    """Deep trees whose layers begin and end at hundreds of places: many words of 64 pieces, clusters of all sizes."""
    random = Random(draw(st.integers(0, 1 << 32)))
    size = random.choice([4 << 20, 9 << 20, 40 << 20]) + random.choice([0, 512])
    layers: list[Layer] = []
    for index in range(random.randrange(8, 24)):
        parent = None if random.random() < 0.02 or not index else random.randrange(max(0, index - 3), index)
        own = size if random.random() < 0.8 else random.randrange(size // 2, size) // SECTOR * SECTOR
        cluster = random.choice([512, 4096, 65536, 65536, 1 << 18, 2 << 20])
        layers.append(Layer(parent, own, _crowd(random, own, cluster)))
    heads = [index for index in range(len(layers)) if random.random() < 0.3]
    return Forest(layers, [*heads, len(layers) - 1])


def _crowd(random: Random, size: int, cluster: int) -> list[tuple[int, int, int, int]]:
    """Up to 40 disjoint extents, compressed ones of one cluster; more often at the beginning of the disk."""
    taken, extents = set(), []
    for _ in range(random.randrange(1, 40)):
        first = int((size // cluster + 1) * random.random() ** 2)
        kind = random.choice([DATA, DATA, ZERO, ZERO_ALLOCATED, COMPRESSED])
        run = 1 if kind == COMPRESSED else random.choice([1, 1, 3, 40])
        length = min((first + run) * cluster, size) - first * cluster
        wanted = set(range(first, first + run))
        if length > 0 and not wanted & taken:
            taken |= wanted
            extents.append((first * cluster, length, kind, 0 if kind == ZERO else random.randrange(1, length + 1)))
    return sorted(extents)


def _add_troubles(draw: st.DrawFn, layers: list[Layer]) -> None:
    for layer in layers:
        trouble = draw(st.sampled_from([None] * 12 + ["refused", "missing", "dangling", "cycle"]))
        if trouble in ("refused", "missing"):
            layer.status = trouble
        elif trouble == "dangling":
            layer.parent = -1
        elif trouble == "cycle":
            layer.parent = draw(st.integers(0, len(layers) - 1))
