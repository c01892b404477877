"""The planner's inputs of a made-up fleet, against walks over its rows; plans of it, and their limits."""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.analytics.derive import derive
from tasks.analytics.duck import open_manifest
from tasks.analytics.fleetgen import FleetShape, generate_fleet
from tasks.analytics.planner_inputs import Request, extents_of, fleet_input
from tasks.analytics.planner_refine import exact_plan
from tasks.errors import NotFound
from tasks.plan.builder import build_plan
from tasks.plan.explain import budget_rows
from tasks.plan.policy import Budget, Policy
from tasks.plan.steps import Plan
from tasks.settings import Fleet, parse_fleet

NOW = "2026-01-01T00:00:00+00:00"
NAMES = ("us-east", "eu-west", "ap-south", "us-west", "eu-north", "ap-east")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet") / "manifest"
    generate_fleet(folder, FleetShape(2000, seed=3))
    derive(folder)
    return folder


def _fleet(policy: Policy | None = None) -> Fleet:
    regions = [
        {
            "name": name,
            "endpoint": "",
            "bucket": name,
            "egress_usd_per_gb": {other: 0.02 for other in NAMES if other != name},
        }
        for name in NAMES
    ]
    made = parse_fleet({"control_region": "us-east", "regions": regions}, "test")
    return made.model_copy(update={"policy": policy or Policy()})


def _plan(manifest: Path, policy: Policy, disks: tuple[str, ...] = ()) -> Plan:
    fleet = _fleet(policy)
    with open_manifest(manifest) as connection:
        return exact_plan(connection, fleet_input(connection, fleet, Request("s", NOW, policy, disks)))


def test_chains_are_the_walks_and_private_parts_are_private(manifest: Path) -> None:
    layers = {row["layer_no"]: row for row in pq.read_table(manifest / "layers").to_pylist()}
    heads = {row["disk_id"]: row for row in pq.read_table(manifest / "heads").to_pylist()}
    reached: dict[int, set[str]] = defaultdict(set)
    for disk, head in heads.items():
        at, seen = head["tip_no"], set()
        while at is not None and at not in seen:
            seen.add(at)
            reached[at].add(disk)
            at = layers[at]["parent_no"]
    policy = Policy(max_chain_length=1)
    with open_manifest(manifest) as connection:
        made = fleet_input(connection, _fleet(policy), Request("s", NOW, policy))
        chains = list(made.chains)
    assert len(chains) > 20
    assert len(chains) + len(list(made.heads)) == len(heads)
    for chain in chains:
        numbers = [layer.layer_no for layer in chain.layers]
        assert numbers[0] == heads[chain.head.disk_id]["tip_no"]
        assert [layers[number]["parent_no"] for number in numbers] == [*numbers[1:], None]
        private = [number for number in numbers if reached[number] == {chain.head.disk_id}]
        assert [layer.layer_no for layer in chain.private] == private
        hidden = Counter[int]()
        for steal in chain.steals:
            assert steal.upper < steal.lower < len(private)
            hidden[steal.lower] += steal.bytes
        assert all(count <= chain.layers[lower].stored_bytes for lower, count in hidden.items())
        assert sum(hidden.values()) == chain.head.shadowed_bytes


def test_exact_plans_hold_their_budgets(manifest: Path) -> None:
    free = _plan(manifest, Policy(max_chain_length=4))
    assert len(free.actions) > 5
    read = sum(free.total.read_bytes.values())
    budget = Budget(
        read_bytes=read // 3, egress_usd=max(free.total.egress_usd / 2, 0.001), actions=len(free.actions) // 2
    )
    policy = Policy(max_chain_length=4, budget=budget)
    plan = _plan(manifest, policy)
    assert 0 < len(plan.actions) <= budget.actions
    assert all(row.used <= row.limit for row in budget_rows(plan, budget))
    assert "over_budget" in {skip.reason for skip in plan.skips}
    assert sum(a.benefit.score for a in plan.actions) <= sum(a.benefit.score for a in free.actions)


def test_estimates_are_near_the_predictions(manifest: Path) -> None:
    policy = Policy(max_chain_length=4, compare_with_base="never")
    fleet = _fleet(policy)
    with open_manifest(manifest) as connection:
        rough = build_plan(fleet_input(connection, fleet, Request("s", NOW, policy)))
    exact = _plan(manifest, policy)
    both = {a.disk_id: a for a in rough.actions}.keys() & {a.disk_id: a for a in exact.actions}.keys()
    assert len(both) > 5
    said = sum(sum(a.cost.read_bytes.values()) for a in rough.actions if a.disk_id in both)
    done = sum(sum(a.cost.read_bytes.values()) for a in exact.actions if a.disk_id in both)
    assert 0.5 < said / done < 2.0


def test_a_requested_disk_is_planned_alone(manifest: Path) -> None:
    policy = Policy(max_chain_length=4)
    free = _plan(manifest, policy)
    disk = free.actions[0].disk_id
    plan = _plan(manifest, replace(policy, max_chain_length=1000), (disk,))
    assert [action.disk_id for action in plan.actions] == [disk]
    assert {skip.disk_id for skip in plan.skips} <= {disk}
    with pytest.raises(NotFound, match="no disk 'nobody'"):
        _plan(manifest, policy, ("nobody",))


def test_extents_of_layers(manifest: Path) -> None:
    rows = pq.read_table(manifest / "layers").to_pylist()
    numbers = [row["layer_no"] for row in rows[5:12]]
    with open_manifest(manifest) as connection:
        found = extents_of(connection, numbers)
    assert {number: len(found[number]) for number in numbers} == {row["layer_no"]: row["extents"] for row in rows[5:12]}
