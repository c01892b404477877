"""The forest of a manifest as arrays, and what of an earlier analysis still holds for it."""

from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from tasks.analytics.shadow import graph

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]
Flags = NDArray[np.bool_]
UNLIMITED = np.int64(1) << 62  # size of layers that could not be read: cuts nothing

_LAYERS = """
SELECT layer_no::BIGINT AS layer_no, coalesce(parent_no, -1)::BIGINT AS parent_no,
       status = 'ok' AS readable, coalesce(virtual_size, 0) AS virtual_size,
       CASE WHEN status = 'ok' THEN coalesce(extents, 0) ELSE 0 END::BIGINT AS extents,
       coalesce(compressed_bytes, 0) > 0 AS compressed,
       hash(layer_no, parent_no, etag, status, virtual_size, extents) AS content
FROM layers ORDER BY layer_no
"""
_HEADS = "SELECT tip_no::BIGINT AS tip_no, count(*) AS n FROM heads WHERE tip_no IS NOT NULL GROUP BY tip_no"


@dataclass(slots=True)
class Structure:
    """Arrays over all layers of the manifest, by ascending layer number."""

    layer_no: Ints
    parent: NDArray[np.int32]  # index, -1: none, or not in the manifest
    order: NDArray[np.int32]  # indices in preorder; layers on or above a cycle are not among them
    readable: Flags
    size: Ints
    extents: Ints
    compressed: Flags
    is_head: Flags
    live: Flags  # in some head's chain
    exact: Flags
    heads: Ints  # head records above or at it
    path_key: Keys
    cone_key: Keys

    @property
    def reached(self) -> Flags:
        """Layers whose chain ends."""
        flags = np.zeros(len(self.layer_no), bool)
        flags[self.order] = True
        return flags


def load_structure(connection: duckdb.DuckDBPyConnection) -> Structure:
    """Read `layers` and `heads` (not the extents)."""
    table = {name: np.ascontiguousarray(column) for name, column in _fetch(connection, _LAYERS).items()}
    numbers: Ints = table["layer_no"]
    parent = _indices(numbers, table["parent_no"]).astype(np.int32)
    order = graph.preorder(parent)
    standing = _heads_standing(connection, numbers, order)
    is_head = standing > 0
    heads = graph.subtree_sums(order, parent, standing)
    live = heads > 0
    readable: Flags = table["readable"]
    content: Keys = table["content"].astype(np.uint64)
    doubt = graph.doubtful(order, parent, readable, is_head, live)
    return Structure(
        numbers,
        parent,
        order,
        readable,
        np.where(readable, table["virtual_size"], UNLIMITED),
        table["extents"],
        table["compressed"],
        is_head,
        live,
        readable & ~doubt,
        heads,
        graph.path_keys(order, parent, content),
        graph.cone_keys(order, parent, content, is_head, live),
    )


def _heads_standing(connection: duckdb.DuckDBPyConnection, numbers: Ints, order: NDArray[np.int32]) -> Ints:
    """How many heads stand on each layer; heads on or above a cycle do not count."""
    rows = _fetch(connection, _HEADS)
    at = _indices(numbers, rows["tip_no"])
    all_heads, reached = np.zeros(len(numbers), np.int64), np.zeros(len(numbers), np.int64)
    all_heads[at[at >= 0]] = rows["n"][at >= 0]
    reached[order] = all_heads[order]
    return reached


def _fetch(connection: duckdb.DuckDBPyConnection, text: str) -> dict[str, NDArray[np.generic]]:
    return {name: np.asarray(column) for name, column in connection.execute(text).fetchnumpy().items()}


def _indices(numbers: Ints, wanted: NDArray[np.generic]) -> Ints:
    """Where each wanted layer number is, -1 if nowhere."""
    if len(numbers) == 0:
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
    found: Ints = np.where(numbers[at] == wanted, at, -1)
    return found


@dataclass(slots=True)
class Kept:
    """What an earlier analysis still says, by layer, and where its rows are."""

    row: Ints  # of the earlier table; meaningless where nothing is kept
    allocated: Flags
    visible: Flags
    steals: Flags


def still_valid(structure: Structure, earlier: dict[str, NDArray[np.generic]] | None) -> Kept:
    """Compare with the earlier `shadow_layers` (layer_no, live, path_key, cone_key).

    A layer's steals depend on its chain downwards, its visible bytes on the layers above it up to the nearest heads.
    """
    count = len(structure.layer_no)
    if earlier is None or len(earlier["layer_no"]) == 0 or count == 0:
        nothing = np.zeros(count, bool)
        return Kept(np.zeros(count, np.int64), nothing, nothing, nothing)
    order = np.argsort(earlier["layer_no"], kind="stable")
    at = _indices(earlier["layer_no"][order].astype(np.int64), structure.layer_no)
    row = order[np.maximum(at, 0)]
    same_path = (at >= 0) & (earlier["path_key"][row].astype(np.uint64) == structure.path_key)
    was_live = same_path & earlier["live"][row].astype(bool) & structure.live
    same_cone = earlier["cone_key"][row].astype(np.uint64) == structure.cone_key
    return Kept(row, same_path, was_live & same_cone, was_live)
