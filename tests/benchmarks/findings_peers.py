"""The same exact jobs by other means, and snapshots for the benchmark of the findings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SECTOR = 512


def tiny_fleet(folder: Path) -> None:
    """Something for the kernels to be compiled on, or loaded from their cache."""
    from tasks.analytics.fleetgen import FleetShape, generate_fleet

    generate_fleet(folder, FleetShape(60))


def next_snapshot(folder: Path, target: Path) -> None:
    """The fleet after one in fifty heads got a new tip that holds what its old tip holds."""
    from tests.benchmarks.findings import shared_copy

    shared_copy(folder, target)
    layers, heads = pq.read_table(folder / "layers"), pq.read_table(folder / "heads")
    extents = pq.read_table(folder / "extents", columns=["layer_no"])
    tips = heads["tip_no"].to_numpy(zero_copy_only=False)
    chosen = np.flatnonzero(~np.isnan(tips.astype(float)))[::50]
    old = np.unique(tips[chosen].astype(np.int64))
    new = np.arange(len(old)) + int(pc.max(layers["layer_no"]).as_py()) + 1
    grown = layers.filter(pc.is_in(layers["layer_no"], pa.array(old.astype(np.int32)))).sort_by("layer_no")
    ids = [f"{number:032x}" for number in new]
    grown = _replaced(grown, layer_no=new, parent_no=old, backing_layer_id=grown["layer_id"], layer_id=ids)
    pq.write_table(grown, target / "layers" / "part-new.parquet")
    del extents
    moved = dict(zip(old.tolist(), new.tolist(), strict=True))
    tip_no = [
        moved.get(tip, tip) if k in set(chosen.tolist()) else tip for k, tip in enumerate(heads["tip_no"].to_pylist())
    ]
    (target / "heads" / "part-0000.parquet").unlink()
    pq.write_table(_replaced(heads, tip_no=tip_no), target / "heads" / "part-0000.parquet")
    rows = pq.read_table(folder / "extents", filters=[("layer_no", "in", set(old.tolist()))])
    numbers = np.array([moved[number] for number in rows["layer_no"].to_pylist()])
    pq.write_table(
        _replaced(rows, layer_no=numbers).sort_by([("layer_no", "ascending"), ("start", "ascending")]),
        target / "extents" / "part-new.parquet",
    )


def _replaced(table: pa.Table, **columns: Any) -> pa.Table:
    for name, values in columns.items():
        place, field = table.schema.get_field_index(name), table.schema.field(name)
        array = values if isinstance(values, pa.ChunkedArray) else pa.array(values, field.type)
        table = table.set_column(place, field, array.cast(field.type))
    return table


def _forest(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(numbers, parent index, size, tips) of the readable manifest."""
    layers = pq.read_table(folder / "layers", columns=["layer_no", "parent_no", "virtual_size", "status"]).sort_by(
        "layer_no"
    )
    number = layers["layer_no"].to_numpy()
    parent = np.nan_to_num(layers["parent_no"].to_numpy(zero_copy_only=False).astype(float), nan=-1).astype(np.int64)
    at = np.minimum(np.searchsorted(number, parent), len(number) - 1)
    readable = pc.equal(layers["status"], "ok").to_numpy(zero_copy_only=False)
    size = np.where(
        readable, np.nan_to_num(layers["virtual_size"].to_numpy(zero_copy_only=False).astype(float)), 2.0**62
    )
    heads = pq.read_table(folder / "heads", columns=["tip_no"])["tip_no"].drop_null().to_numpy()
    return (
        number,
        np.where(number[at] == parent, at, -1),
        size.astype(np.int64),
        np.unique(np.searchsorted(number, heads)),
    )


def numpy_chain_length(folder: Path) -> dict[str, Any]:
    """Depth of every layer by pointer doubling: the bare length, none of the query's other columns."""
    _, parent, _, tips = _forest(folder)
    above, depth = np.append(parent, -1), np.append(np.ones(len(parent), np.int64), 0)
    for _ in range(22):
        depth += np.where(above >= 0, depth[above], 0)
        above = np.where(above >= 0, above[above], -1)
    return {"rows": len(tips), "sum": int(depth[tips][above[tips] < 0].sum())}


def polars_chain_length(folder: Path) -> dict[str, Any]:
    """The same by one join per step from the roots."""
    import polars as pl

    links = pl.read_parquet(folder / "layers" / "*.parquet", columns=["layer_no", "parent_no"])
    step = links.filter(pl.col("parent_no").is_null()).select("layer_no", depth=pl.lit(1))
    found = [step]
    while len(step):
        step = links.join(step, left_on="parent_no", right_on="layer_no").select("layer_no", depth=pl.col("depth") + 1)
        found.append(step)
    heads = pl.read_parquet(folder / "heads" / "*.parquet", columns=["tip_no"]).drop_nulls().unique()
    lengths = heads.join(pl.concat(found), left_on="tip_no", right_on="layer_no")
    return {"rows": len(heads), "sum": int(lengths["depth"].sum())}


def numpy_shadow(folder: Path) -> dict[str, Any]:
    """Visible data bytes per layer, exactly: each tree cut at every boundary, one walk per head over its pieces."""
    number, parent, size, tips = _forest(folder)
    extents = pq.read_table(folder / "extents", columns=["layer_no", "start", "length", "kind"])
    layer = np.searchsorted(number, extents["layer_no"].to_numpy())
    start = extents["start"].to_numpy()
    end = np.minimum(start + extents["length"].to_numpy(), size[layer])
    kind = extents["kind"].to_numpy()
    root = _roots(parent)
    visible = 0
    order = np.argsort(root[layer], kind="stable")
    bounds = np.searchsorted(root[layer][order], np.arange(len(number) + 1))
    for tree in np.unique(root[tips][root[tips] >= 0]):
        rows = order[bounds[tree] : bounds[tree + 1]]
        visible += _shadow_of_tree(
            layer[rows], start[rows], end[rows], kind[rows], parent, size, tips[root[tips] == tree]
        )
    return {"visible_data_bytes": int(visible)}


def _roots(parent: np.ndarray) -> np.ndarray:
    root, known = np.where(parent < 0, np.arange(len(parent)), parent), parent < 0
    for _ in range(22):
        known, root = known | known[root], root[root]
    return np.where(parent[root] < 0, root, -1)


def _shadow_of_tree(
    layer: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    kind: np.ndarray,
    parent: np.ndarray,
    size: np.ndarray,
    tips: np.ndarray,
) -> int:
    limits = size[np.unique(layer)] if len(layer) else size[:0]
    cuts = np.unique(np.concatenate([start, end, limits]))
    low, high = np.searchsorted(cuts, start), np.searchsorted(cuts, end)
    owned: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    order = np.argsort(layer, kind="stable")
    for value, rows in zip(*_groups(layer[order], order), strict=True):
        count = high[rows] - low[rows]
        pieces = np.repeat(low[rows] - np.concatenate([[0], np.cumsum(count)[:-1]]), count) + np.arange(count.sum())
        owned[int(value)] = (pieces, np.repeat(kind[rows] == 0, count))
    shown = {value: np.zeros(len(pieces), bool) for value, (pieces, _) in owned.items()}
    covered = np.zeros(len(cuts), bool)
    for tip in tips.tolist():
        at, limit = tip, np.int64(1) << 62
        while at >= 0:
            limit = min(limit, size[at])
            if at in owned:
                pieces, _ = owned[at]
                shown[at] |= ~covered[pieces] & (cuts[pieces] < limit)
                covered[pieces] = True
            at = int(parent[at])
        covered[:] = False
    width = np.diff(cuts, append=cuts[-1:])
    return sum(int(width[pieces[shown[value] & data]].sum()) for value, (pieces, data) in owned.items())


def _groups(values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    keys, first = np.unique(values, return_index=True)
    return keys, np.split(rows, first[1:])


def polars_shadow(folder: Path) -> dict[str, Any]:
    """Visible data bytes, exactly: explode chains and pieces, the nearest holder wins. Small fleets only."""
    import polars as pl

    number, parent, size, tips = _forest(folder)
    root = _roots(parent)
    chains = []
    for tip in tips[root[tips] >= 0].tolist():
        at, limit, distance = tip, 1 << 62, 0
        while at >= 0:
            limit = min(limit, int(size[at]))
            chains.append((tip, at, distance, limit))
            at, distance = int(parent[at]), distance + 1
    chain = pl.DataFrame(chains, schema=["head", "layer", "distance", "limit"], orient="row")
    where = pl.DataFrame({"layer_no": number, "layer": np.arange(len(number)), "root": root, "size": size})
    held = pl.read_parquet(folder / "extents" / "*.parquet", columns=["layer_no", "start", "length", "kind"])
    held = held.join(where.with_columns(pl.col("layer_no").cast(pl.Int32)), on="layer_no")
    held = held.with_columns(stop=pl.min_horizontal(pl.col("start") + pl.col("length"), pl.col("size")))
    visible = 0
    for tree in held.partition_by("root"):
        cuts = pl.concat([tree["start"], tree["stop"], tree["size"]]).unique().sort()
        pieces = tree.with_columns(low=cuts.search_sorted(tree["start"]), high=cuts.search_sorted(tree["stop"]))
        pieces = pieces.select("layer", "kind", piece=pl.int_ranges("low", "high")).explode("piece").drop_nulls()
        width = pl.DataFrame(
            {"piece": np.arange(len(cuts)), "place": cuts, "width": np.diff(cuts.to_numpy(), append=0)}
        )
        seen = chain.join(pieces, on="layer").join(width.with_columns(pl.col("piece").cast(pl.Int64)), on="piece")
        seen = seen.filter(pl.col("place") < pl.col("limit"))
        nearest = seen.filter(pl.col("distance") == pl.col("distance").min().over("head", "piece"))
        visible += int(nearest.filter(pl.col("kind") == 0).unique(["layer", "piece"])["width"].sum())
    return {"visible_data_bytes": visible}


def sql_shadow(folder: Path) -> dict[str, Any]:
    """The reference in SQL: layers only."""
    from tasks.analytics.duck import open_manifest
    from tasks.analytics.sqlfiles import load

    with open_manifest(folder, memory_limit="8GB") as connection:
        table = connection.sql(load("reference", "shadow_layers").sql).to_arrow_table()
    return {"visible_data_bytes": pc.sum(table["visible_data_bytes"]).as_py()}


def kernel_shadow(folder: Path) -> dict[str, Any]:
    """What the kernel's result sums up to, for comparison (no work: reads the derived dataset)."""
    table = pq.read_table(folder / "shadow_layers", columns=["visible_data_bytes"])
    return {"visible_data_bytes": pc.sum(table["visible_data_bytes"]).as_py()}


PEERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "numpy-chain-length": numpy_chain_length,
    "polars-chain-length": polars_chain_length,
    "numpy-shadow": numpy_shadow,
    "polars-shadow": polars_shadow,
    "sql-shadow": sql_shadow,
    "kernel-shadow": kernel_shadow,
}
