"""Measurements of the inventory (docs/benchmarks/inventory.md).

    python -m tests.benchmarks.inventory memory [--scattered]     one 2 TiB layer, nothing but its tables
    python -m tests.benchmarks.inventory small --layers 1000       against qemu-img map over HTTP, same object store
    python -m tests.benchmarks.inventory large --layers 20 [--delay-ms 0 20]
    python -m tests.benchmarks.inventory sources --reads 3000      obstore against boto3
    python -m tests.benchmarks.inventory relist --layers 100000    a second scan of an unchanged bucket

Every figure is of one run on one machine; compare what stands in one table. One JSON document on standard output.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import inventory_memory, inventory_store
from tests.benchmarks.inventory_store import against_qemu


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.inventory")
    parser.add_argument("what", choices=["memory", "small", "large", "sources", "relist"])
    parser.add_argument("--layers", type=int, default=1000)
    parser.add_argument("--reads", type=int, default=3000)
    parser.add_argument("--scattered", action="store_true", help="no two clusters of the layer are adjacent")
    parser.add_argument("--tib", type=float, default=2.0)
    parser.add_argument("--delay-ms", type=float, nargs="+", default=[0.0], help="round-trip times to the store")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    options = parser.parse_args()
    measures: dict[str, Callable[[Path], Any]] = {
        "memory": lambda folder: inventory_memory.measure(folder, options.tib, options.scattered),
        "small": lambda folder: against_qemu(folder, options.layers, inventory_store.small_layers, options.delay_ms),
        "large": lambda folder: against_qemu(folder, options.layers, inventory_store.large_layers, options.delay_ms),
        "sources": lambda folder: inventory_store.sources(folder, options.reads),
        "relist": lambda folder: inventory_store.relist(folder, options.layers),
    }
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        result = measures[options.what](Path(folder))
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
