"""Measurements of the findings (docs/benchmarks/findings.md).

    python -m tests.benchmarks.findings all DIR         scan, analysis and every query of a made-up fleet in DIR
    python -m tests.benchmarks.findings one DIR WHAT    one of them, in this process
    python -m tests.benchmarks.findings again DIR       the analysis of a next snapshot: some disks grew by a layer
    python -m tests.benchmarks.findings peers DIR       the same exact jobs in numpy, polars and SQL

Make DIR with `chainwright dev generate-fleet DIR --size S`. Each measurement runs in a process of its own: CPU seconds
(user and system, all threads), wall seconds, peak resident memory. JSON lines on standard output.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import findings_peers

SCAN = "SELECT sum(layer_no), sum(start), sum(length), sum(kind) FROM extents"
CHOSEN = {"disk_id": "longest", "region": "eu-north"}  # values for parameters without a default


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.findings")
    parser.add_argument("what", choices=["all", "one", "again", "peers"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("job", nargs="?", default="")
    options = parser.parse_args()
    if options.what == "one":
        print_line(measured(options.job, job_of(options.folder, options.job)))
        return
    prepare(options.folder)
    jobs = {"all": all_jobs, "again": lambda: ["again"], "peers": lambda: list(findings_peers.PEERS)}[options.what]()
    for job in jobs:
        apart(options.folder, job)


def prepare(folder: Path) -> None:
    """The queries need what the analysis derives."""
    from tasks.analytics.derive import derive, is_derived

    if not is_derived(folder):
        derive(folder)


def all_jobs() -> list[str]:
    from tasks.analytics.queries import queries

    return ["scan", "derive", "derive-1-thread", *queries()]


def apart(folder: Path, job: str) -> None:
    """One measurement in a fresh process."""
    argv = [sys.executable, "-m", "tests.benchmarks.findings", "one", str(folder), job]
    done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, text=True, timeout=3600)
    sys.stdout.write(done.stdout or json.dumps({"job": job, "failed": done.returncode}) + "\n")
    sys.stdout.flush()


def job_of(folder: Path, job: str) -> Callable[[], dict[str, Any]]:
    if job in findings_peers.PEERS:
        return lambda: findings_peers.PEERS[job](folder)
    known: dict[str, Callable[[], dict[str, Any]]] = {
        "scan": lambda: run_sql(folder, SCAN),
        "derive": lambda: run_derive(folder, 2),
        "derive-1-thread": lambda: run_derive(folder, 1),
        "again": lambda: run_again(folder),
    }
    return known.get(job) or (lambda: run_query(folder, job))


def measured(name: str, job: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run it; what it took of this process. `more` may take away what was preparation."""
    import duckdb  # noqa: F401 - loaded before the clock starts, as are the others
    import pyarrow.parquet

    from tasks.analytics import queries  # noqa: F401

    del pyarrow
    before, start = cpu_seconds(), time.monotonic()
    more = job()
    line = {
        "job": name,
        "cpu_s": round(cpu_seconds() - before - more.pop("not_cpu_s", 0), 3),
        "wall_s": round(time.monotonic() - start - more.pop("not_wall_s", 0), 3),
        "peak_mib": peak_mib(),
    }
    return line | more


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def print_line(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")


def run_sql(folder: Path, text: str) -> dict[str, Any]:
    from tasks.analytics.duck import open_manifest

    before, start = cpu_seconds(), time.monotonic()
    with open_manifest(folder, memory_limit="1GB") as connection:
        prepared = (cpu_seconds() - before, time.monotonic() - start)
        connection.execute(text).fetchall()
    return {"open_cpu_s": round(prepared[0], 3), "not_cpu_s": prepared[0], "not_wall_s": prepared[1]}


def run_query(folder: Path, name: str) -> dict[str, Any]:
    from tasks.analytics.duck import open_manifest
    from tasks.analytics.queries import find, run_arrow

    query = find(name)
    before, start = cpu_seconds(), time.monotonic()
    with open_manifest(folder, memory_limit="4GB") as connection:
        given = {p.name: CHOSEN.get(p.name) for p in query.parameters if p.default is None}
        if given.get("disk_id") == "longest":
            longest = "SELECT disk_id FROM heads JOIN shadow_layers ON layer_no = tip_no ORDER BY depth DESC LIMIT 1"
            given["disk_id"] = connection.execute(longest).fetchall()[0][0]
        prepared = (cpu_seconds() - before, time.monotonic() - start)
        rows = run_arrow(connection, query, given, {"now": "2026-12-01"}).num_rows
    return {"rows": rows, "not_cpu_s": prepared[0], "not_wall_s": prepared[1]}


def run_derive(folder: Path, threads: int, previous: Path | None = None) -> dict[str, Any]:
    """Into a copy of the folder that shares its files. The kernels are compiled before (cached on disk)."""
    from tasks.analytics.derive import derive
    from tasks.analytics.duck import open_manifest

    before, start = cpu_seconds(), time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        warm, copy = Path(work) / "warm", Path(work) / "copy"
        findings_peers.tiny_fleet(warm)
        derive(warm)
        shared_copy(folder, copy)
        open_manifest(copy).close()
        prepared = (cpu_seconds() - before, time.monotonic() - start)
        done = derive(copy, previous, threads=threads)
        size = sum(file.stat().st_size for file in copy.glob("s*/*.parquet"))
    return {
        "worked_layers": done.worked_layers,
        "worked_extents": done.worked_extents,
        "stale_layers": done.stale_layers,
        "steals": done.steals,
        "buckets": done.buckets,
        "derived_mib": round(size / 2**20, 1),
        "not_cpu_s": prepared[0],
        "not_wall_s": prepared[1],
    }


def shared_copy(folder: Path, target: Path) -> None:
    """The manifest without derived datasets, by hard links."""
    for name in ("layers", "extents", "heads", "reads"):
        shutil.copytree(folder / name, target / name, copy_function=lambda a, b: Path(b).hardlink_to(a))


def run_again(folder: Path) -> dict[str, Any]:
    """A next snapshot in which one in fifty heads has a new tip."""
    before, start = cpu_seconds(), time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        findings_peers.next_snapshot(folder, Path(work) / "next")
        prepared = (cpu_seconds() - before, time.monotonic() - start)
        result = run_derive(Path(work) / "next", 2, folder)
    result["not_cpu_s"] += prepared[0]
    result["not_wall_s"] += prepared[1]
    return result


if __name__ == "__main__":
    main()
