"""Retirement over a large forest: CPU s, memory and requests of a run.

    python -m tests.benchmarks.retire --layers 1000000 --heads 5000 --tombstones 5000

The forest is made up and given in place of an inventory (which has its own benchmark); heads, tombstones and the layers
that are due are objects of a real SeaweedFS.
"""

import argparse
import resource
import secrets
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tasks.chain.head import Head
from tasks.execute.retire import FleetView, Retirement
from tasks.plan.policy import Safety
from tasks.plan.retire import Forest
from tasks.store import keys
from tasks.store.connect import open_stores
from tasks.store.heads import HeadStore
from tasks.store.tombstones import Tombstones
from tests.benchmarks.inventory_store import object_store


class Counted:
    """A store that counts its calls by name."""

    def __init__(self, inner: Any, calls: Counter[str]) -> None:
        self.inner, self.calls = inner, calls
        self.region, self.bucket = inner.region, inner.bucket

    def __getattr__(self, name: str) -> Any:
        target = getattr(self.inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            return target(*args, **kwargs)

        return call if callable(target) else target


def made_up(layers: int, heads: int, dead: int) -> tuple[Forest, list[int]]:
    """`heads` chains of equal length and, at the end, `dead` layers that nothing reaches; positions of the tips."""
    live = layers - dead
    starts = np.linspace(0, live, heads, endpoint=False, dtype=np.int64)
    parent = np.arange(-1, layers - 1, dtype=np.int64)
    parent[starts] = -1
    parent[live] = -1
    ids = [f"{number:032x}" for number in range(layers)]
    old = np.full(layers, 1e9)
    forest = Forest(ids, parent, np.zeros(layers, np.bool_), np.full(layers, 1 << 20), ["here"] * layers, old)
    return forest, [*(starts[1:] - 1).tolist(), live - 1]


def prepare(fleet: Any, layers: int, heads: int, dead: int) -> FleetView:
    """Heads, layers that are due, and their tombstones, in the store."""
    store = open_stores(fleet)["here"]
    forest, tips = made_up(layers, heads, dead)
    etags = [""] * layers
    stones, head_store = Tombstones(store), HeadStore(store)
    view = FleetView(forest, etags, heads_before=heads, layers_before=layers)

    def bury(position: int) -> None:
        etags[position] = store.put_new(keys.layer(forest.ids[position]), secrets.token_bytes(64))
        stones.mark(view.ref(position), "before")

    with ThreadPoolExecutor(16) as pool:
        list(
            pool.map(lambda n: head_store.create(Head(f"disk-{n}", forest.ids[tips[n]], "disk", "here")), range(heads))
        )
        list(pool.map(bury, range(layers - dead, layers)))
    return view


def measure(fleet: Any, view: FleetView, dead: int, *, dry_run: bool) -> str:
    """One run as a row of Markdown."""
    calls: Counter[str] = Counter()
    store = Counted(open_stores(fleet)["here"], calls)
    safety = Safety(grace_hours=0.0, allow_short_grace=True, max_retired_share=1.0, max_retired_layers=dead)
    cpu, wall = time.process_time(), time.monotonic()
    run = Retirement({"here": store}, store, lambda: view, safety, secrets.token_hex(4))  # type: ignore[dict-item, arg-type]
    swept = len(run.run(dry_run=dry_run).swept)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kind = "dry run" if dry_run else "real"
    return f"| {kind} | {swept:,} | {cpu:.1f} | {wall:.1f} | {peak:.0f} | {dict(calls)} |"


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=1_000_000)
    parser.add_argument("--heads", type=int, default=5_000)
    parser.add_argument("--tombstones", type=int, default=5_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, object_store(Path(folder)) as (fleet, _):
        view = prepare(fleet, chosen.layers, chosen.heads, chosen.tombstones)
        print(f"{chosen.layers:,} layers, {chosen.heads:,} heads, {chosen.tombstones:,} tombstones")
        print("| run | deleted | CPU s | wall s | peak MiB | store calls |")
        print("|---|---|---|---|---|---|")
        for dry_run in (True, False):
            print(measure(fleet, view, chosen.tombstones, dry_run=dry_run))


if __name__ == "__main__":
    main()
