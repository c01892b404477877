"""Planning a whole fleet: CPU seconds and memory by step.

    python -m tests.benchmarks.planner --layers 100000 --directory /var/tmp/fleet-m [--budget-share 0.1]

Makes a made-up fleet with its derived datasets in the directory (kept for the next run), then plans it in a process of
its own, so that the peak memory is the planner's.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.analytics.derive import derive, is_derived
from tasks.analytics.duck import open_manifest
from tasks.analytics.fleetgen import FleetShape, generate_fleet
from tasks.analytics.fleetgen.forest import REGIONS
from tasks.analytics.planner_inputs import Request, fleet_input
from tasks.analytics.planner_refine import exact_plan
from tasks.plan.builder import propose_all, select
from tasks.plan.policy import Budget, Policy
from tasks.settings import Fleet, parse_fleet

NOW = "2026-01-01T00:00:00+00:00"
NO_BUDGET = Budget(1 << 60, 1 << 60, 1 << 60, 1 << 60, 1e9, 1 << 30)


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=100_000)
    parser.add_argument("--extents-per-layer", type=float, default=20.0)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--budget-share", type=float, default=0.1, help="of what an unlimited plan would read")
    options = parser.parse_args()
    if not options.directory.exists():
        shape = FleetShape(options.layers, extents_per_layer=options.extents_per_layer, reads_per_layer=1.0)
        generate_fleet(options.directory, shape)
    if not is_derived(options.directory):
        derive(options.directory)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result = pool.apply(measure, (options.directory, options.budget_share))
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


def measure(directory: Path, share: float) -> dict[str, Any]:
    """The steps, each with its CPU seconds."""
    steps: dict[str, float] = {}
    policy = Policy(budget=NO_BUDGET)
    fleet = _fleet()
    request = Request("benchmark", NOW, policy)
    with open_manifest(directory) as connection:
        made = _timed(steps, "heads", lambda: fleet_input(connection, fleet, request))
        proposals = _timed(steps, "load chains and propose runs", lambda: propose_all(made))
        picks = _timed(steps, "choose without a limit", lambda: select(proposals, NO_BUDGET))
        chosen = [group[pick] for group, pick in zip(proposals.groups, picks, strict=True) if pick >= 0]
        read = sum(sum(item.cost.read_bytes.values()) for item in chosen)
        budget = replace(NO_BUDGET, read_bytes=int(read * share), actions=max(1, len(chosen) // 2))
        tight = _timed(steps, f"choose under {share:.0%} of the bytes", lambda: select(proposals, budget))
        kept = [group[pick] for group, pick in zip(proposals.groups, tight, strict=True) if pick >= 0]
        limited = replace(policy, budget=Budget())
        again = fleet_input(connection, fleet, replace(request, policy=limited))
        plan = _timed(steps, "everything, default budget, exact costs", lambda: exact_plan(connection, again))
        heads = connection.sql("SELECT count(*) FROM heads").fetchall()[0][0]
        layers = connection.sql("SELECT count(*) FROM layers").fetchall()[0][0]
    return {
        "heads": heads,
        "layers": layers,
        "disks worth a merge": len(proposals.groups),
        "runs offered": sum(len(group) for group in proposals.groups),
        "cpu_seconds": {name: round(seconds, 2) for name, seconds in steps.items()},
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "value kept": round(sum(item.value for item in kept) / max(1e-9, sum(item.value for item in chosen)), 3),
        "actions": len(plan.actions),
        "engines": Counter(action.engine for action in plan.actions),
        "skips": Counter(skip.reason for skip in plan.skips),
    }


def _timed(steps: dict[str, float], name: str, call: Any) -> Any:
    begin = time.process_time()
    result = call()
    steps[name] = time.process_time() - begin
    return result


def _fleet() -> Fleet:
    def region(name: str) -> dict[str, Any]:
        prices = {other: 0.02 if other[:2] == name[:2] else 0.09 for other in REGIONS if other != name}
        return {"name": name, "endpoint": "", "bucket": name, "egress_usd_per_gb": prices}

    return parse_fleet({"control_region": REGIONS[0], "regions": [region(name) for name in REGIONS]}, "benchmark")


if __name__ == "__main__":
    main()
