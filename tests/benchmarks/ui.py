"""First-paint times of every page's endpoints on a large made-up fleet, answered from its manifest.

    python -m tests.benchmarks.ui FOLDER [--layers 1000000] [--rounds 20]

FOLDER is a manifest; it is made there first if it does not exist (1e6 layers take about a minute). The app runs in this
process behind Airflow's own authentication, without a network in between. Figures are wall and CPU time of one request.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.settings import Fleet, parse_fleet
from tests.support import airflow_env

PAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "all: status": ("status", {}),
    "fleet: totals": ("query/fleet_totals", {"limit": 1}),
    "fleet: chain lengths": ("query/chain_length_histogram", {"limit": 500}),
    "fleet: pairs of regions": ("query/cross_region_hotspots", {"limit": 500}),
    "fleet: hit rates": ("query/cache_hit_rate", {"limit": 100}),
    "fleet: savings": ("query/savings_by_day", {"limit": 500}),
    "fleet: limit within 7 days": ("query/growth_forecast", {"within_days": 7, "limit": 10}),
    "findings: list": ("queries", {}),
    "findings: long chains": ("query/chain_length", {}),
    "findings: long chains, sorted": ("query/chain_length", {"sort": "stored_bytes", "desc": True}),
    "findings: long chains, deep page": ("query/chain_length", {"sort": "disk_id", "offset": 90_000}),
    "findings: long chains, filtered": ("query/chain_length", {"filter": "0123"}),
    "findings: shadowed data": ("query/shadowed_data", {}),
    "findings: orphans": ("query/orphans", {}),
    "findings: broken chains": ("query/broken_chains", {}),
    "findings: size anomalies": ("query/size_anomalies", {}),
    "history: outcomes": ("query/outcomes", {"limit": 10}),
    "history: actions": ("query/receipts", {"sort": "finished_at", "desc": True}),
}
DISK_PAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "disk: suggestions": ("query/chain_length", {"filter": "{disk}", "limit": 20}),
    "disk: facts": ("disk", {"disk": "{disk}"}),
    "disk: chain": ("query/disk_chain", {"disk_id": "{disk}", "limit": 100}),
    "disk: actions done": ("query/receipts", {"disk_id": "{disk}", "limit": 10}),
}
LATER: dict[str, tuple[str, dict[str, Any]]] = {
    "disk: who shares it (on a click)": ("query/disk_sharers", {"disk_id": "{disk}", "limit": 10}),
    "disk: what the planner says": ("verdict", {"disk": "{disk}"}),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--layers", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    home = Path(tempfile.mkdtemp(prefix="ui-benchmark-"))
    airflow_env.prepare(home)
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "none")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "none")
    try:
        print_rows(measure(given.folder, given.layers, given.rounds, trial_fleet(home)), given.json)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def measure(folder: Path, layers: int, rounds: int, fleet: Fleet) -> list[dict[str, Any]]:
    rows = make(folder, layers)
    client, holder = client_of(folder, fleet)
    rows.append(prepared(folder, holder))
    disks = [row["disk_id"] for row in client.get("/api/query/chain_length", params={"limit": 1000}).json()["rows"]]
    some = random.Random(7)
    for name, (path, params) in (PAGES | DISK_PAGES | LATER).items():
        times = []
        for _ in range(rounds):
            disk = some.choice(disks)
            filled = {key: disk if value == "{disk}" else value for key, value in params.items()}
            times.append(timed(lambda path=path, filled=filled: ok(client.get(f"/api/{path}", params=filled))))
        rows.append({"what": name, **summary(times)})
        sys.stderr.write(f"{name}: {rows[-1]['wall_s']:.3f} s\n")
    return rows


def make(folder: Path, layers: int) -> list[dict[str, Any]]:
    from tasks.analytics.derive import derive, is_derived
    from tasks.analytics.fleetgen import FleetShape, generate_fleet

    if not folder.exists():
        generate_fleet(folder, FleetShape(layers, extents_per_layer=3.0))
    if is_derived(folder):
        return []
    wall, cpu, _ = timed(lambda: derive(folder))
    return [{"what": "once a snapshot: derive", "wall_s": wall, "cpu_s": cpu}]


def prepared(folder: Path, holder: Any) -> dict[str, Any]:
    from plugins.chain_view.state import prepare

    for kept in ("answers", "placed"):
        shutil.rmtree(folder / kept, ignore_errors=True)
    view = holder.view()
    wall, cpu, _ = timed(lambda: prepare(view.fleet, view.staged))
    return {"what": "once a snapshot: first pages", "wall_s": wall, "cpu_s": cpu}


def client_of(folder: Path, fleet: Fleet) -> tuple[Any, Any]:
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi.testclient import TestClient

    from plugins.chain_view.app import app
    from plugins.chain_view.snapshots import SnapshotHolder
    from plugins.chain_view.source import FolderSource
    from plugins.chain_view.state import holder

    create_auth_manager()
    here = SnapshotHolder(FolderSource(folder, fleet))
    app.dependency_overrides[holder] = lambda: here
    app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="v", role="viewer")
    return TestClient(app), here


def ok(answer: Any) -> int:
    assert answer.status_code == 200, answer.text
    return len(answer.content)


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def summary(times: list[tuple[float, float, int]]) -> dict[str, Any]:
    walls = sorted(wall for wall, _, _ in times)
    return {
        "wall_s": statistics.median(walls),
        "worst_s": walls[-1],
        "cpu_s": statistics.median(cpu for _, cpu, _ in times),
        "bytes": max(size for _, _, size in times),
    }


def trial_fleet(work: Path) -> Fleet:
    from tasks.analytics.fleetgen.forest import REGIONS

    regions = [{"name": name, "endpoint": "http://127.0.0.1:9", "bucket": f"bucket-{name}"} for name in REGIONS]
    return parse_fleet({"control_region": REGIONS[0], "work_dir": str(work), "regions": regions}, "benchmark")


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    sys.stdout.write(f"{'what':36} {'median s':>9} {'worst s':>8} {'CPU s':>7} {'bytes':>8}\n")
    for row in rows:
        worst = f"{row['worst_s']:8.3f}" if "worst_s" in row else " " * 8
        size = row.get("bytes", 0)
        sys.stdout.write(f"{row['what']:36} {row['wall_s']:9.3f} {worst} {row['cpu_s']:7.3f} {size:8d}\n")


if __name__ == "__main__":
    main()
