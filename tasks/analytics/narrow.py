"""A connection that sees only the layers that matter to some disks: what one disk needs costs the same in any fleet."""

from collections.abc import Sequence

import duckdb

from tasks.analytics.queries import run
from tasks.analytics.sqlfiles import load


def narrow(connection: duckdb.DuckDBPyConnection, disks: Sequence[str]) -> bool:
    """Put the disks' chains, with one other head per shared layer, in front of `layers` and `heads`.

    For this connection alone. False, and nothing is changed, where that would not be exact: a disk is not known, its
    chain does not end, or the manifest was not analysed (`tasks.analytics.derive`).
    """
    kin = load("plan", "kin")
    numbers: set[int] = set()
    for disk in disks:
        found = [number for (number,) in run(connection, kin, {"disk_id": disk}).rows]
        if not found:
            return False
        numbers.update(found)
    wanted = [sorted(numbers)]
    connection.execute("CREATE TEMP TABLE kin AS SELECT unnest(?) AS layer_no", wanted)
    connection.execute("CREATE TEMP TABLE narrowed AS SELECT layers.* FROM layers SEMI JOIN kin USING (layer_no)")
    connection.execute("CREATE TEMP TABLE heads AS SELECT * FROM heads WHERE tip_no IN (SELECT layer_no FROM kin)")
    connection.execute("ALTER TABLE narrowed RENAME TO layers")
    return True
