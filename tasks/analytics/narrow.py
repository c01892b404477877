"""A connection that sees only the trees of some disks: what one disk needs costs the same in a fleet of any size."""

from collections.abc import Sequence

import duckdb

from tasks.analytics.queries import run_arrow
from tasks.analytics.sqlfiles import load


def narrow(connection: duckdb.DuckDBPyConnection, disks: Sequence[str]) -> bool:
    """Put `layers` and `heads` of the disks' trees in front of the manifest's views, for this connection alone.

    False, and nothing is changed, where that would not be exact: a disk is not known, its chain does not end, or the
    manifest was not analysed (`tasks.analytics.derive`).
    """
    wanted = {"disk_ids": list(disks)}
    heads = run_arrow(connection, load("plan", "tree_heads"), wanted)
    layers = run_arrow(connection, load("plan", "tree_layers"), wanted)
    known = set(layers["layer_no"].to_pylist())
    tips = dict(zip(heads["disk_id"].to_pylist(), heads["tip_no"].to_pylist(), strict=True))
    if any(tips.get(disk) not in known for disk in disks):
        return False
    connection.register("narrowed_layers", layers)
    connection.register("narrowed_heads", heads)
    connection.execute("CREATE TEMP TABLE layers AS SELECT * FROM narrowed_layers")
    connection.execute("CREATE TEMP TABLE heads AS SELECT * FROM narrowed_heads")
    return True
