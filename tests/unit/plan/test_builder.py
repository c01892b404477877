"""Plans of whole fleets: what must hold for any of them."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from tasks.plan.builder import build_plan
from tasks.plan.codec import action_from_json, action_to_json, plan_from_json, plan_to_json
from tasks.plan.explain import budget_rows, chain_after, explain
from tasks.plan.hazards import Run, refusals
from tasks.plan.inputs import ChainInput, FleetInput, Steal, Tools
from tasks.plan.policy import Budget, Policy
from tasks.plan.reasons import SKIPS
from tasks.plan.steps import Plan
from tests.support.plans import EVERYTHING, NOW, chain, fleet, fleets, layer, long_chain

ANY = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)


def _chain_of(made: FleetInput, disk: str) -> ChainInput:
    return next(item for item in made.chains if item.head.disk_id == disk)


@ANY
@given(fleets())
def test_any_plan(made: FleetInput) -> None:
    plan = build_plan(made)
    assert all(row.used <= row.limit for row in budget_rows(plan, made.policy.budget))
    assert len({action.disk_id for action in plan.actions}) == len(plan.actions)
    said = Counter(skip.disk_id for skip in plan.skips if skip.reason != "next_round")
    said.update(action.disk_id for action in plan.actions)
    assert said == Counter(item.head.disk_id for item in made.chains)
    assert {skip.reason for skip in plan.skips} <= set(SKIPS)
    for action in plan.actions:
        item = _chain_of(made, action.disk_id)
        _check_action(item, made, plan, len(action.above), len(action.run))
        parts = [*action.above, *action.run, *([action.base] if action.base else []), *action.below]
        assert parts == [layer.ref() for layer in item.layers]
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan
    assert build_plan(made) == plan


def _check_action(item: ChainInput, made: FleetInput, plan: Plan, first: int, count: int) -> None:
    """Inside the private part, no forbidden base, a safe engine, an idle disk, a chain without holes."""
    action = next(action for action in plan.actions if action.disk_id == item.head.disk_id)
    last = first + count - 1
    assert count >= 2
    assert last < item.head.private_layers
    assert made.policy.flatten or last < len(item.layers) - 1
    assert item.head.private_layers - count + 1 >= made.policy.keep_layers
    assert item.head.state == "idle"
    assert all(layer.status == "ok" for layer in item.layers)
    run = Run(item.layers[first : last + 1], item.layers[last + 1 :], made.policy, made.tools)
    assert action.engine not in refusals(run)
    assert set(action.engines_refused) >= set(refusals(run))
    assert action.benefit.layers_removed == count - 1
    assert chain_after(action) == len(item.layers) - count + 1


def test_a_long_chain_becomes_short_in_one_action() -> None:
    plan = build_plan(fleet(long_chain(24)))
    (action,) = plan.actions
    assert action.reason == "chain_too_long"
    assert chain_after(action) <= Policy().max_chain_length
    assert plan.skips == ()


def test_shared_layers_and_the_base_are_never_in_the_run() -> None:
    layers = [layer(k) for k in range(20)]
    plan = build_plan(fleet(chain(layers, private=6)))
    (action,) = plan.actions
    names = {ref.layer_id for ref in (*action.above, *action.run)}
    assert names <= {item.layer_id for item in layers[:6]}
    assert action.base is not None


def test_the_base_is_swallowed_only_when_the_policy_flattens() -> None:
    layers = [layer(k, mib=8) for k in range(10)]
    whole = chain(layers, private=10)
    (kept,) = build_plan(fleet(whole)).actions
    assert kept.base is not None
    (flat,) = build_plan(fleet(whole, policy=Policy(flatten=True, keep_layers=1))).actions
    assert flat.base is None
    assert len(flat.run) == 10


def test_a_refused_layer_anywhere_leaves_the_chain_alone() -> None:
    layers = [layer(k) for k in range(12)]
    layers[11] = replace(layers[11], status="refused", reason="l1_beyond_end")
    plan = build_plan(fleet(chain(layers)))
    assert [(skip.reason, skip.detail) for skip in plan.skips] == [
        ("refused_layer", f"layer {layers[11].layer_id}: l1_beyond_end")
    ]


def test_a_layer_that_no_engine_takes_splits_the_chain() -> None:
    layers = [layer(k) for k in range(21)]
    layers[10] = replace(layers[10], snapshots=1)
    plan = build_plan(fleet(chain(layers)))
    (action,) = plan.actions
    ids = {ref.layer_id for ref in action.run}
    assert layers[10].layer_id not in ids
    assert [skip.reason for skip in plan.skips] == ["next_round"]


def test_no_safe_engine_names_every_hazard() -> None:
    layers = [layer(k, snapshots=1) for k in range(12)]
    (skip,) = build_plan(fleet(chain(layers))).skips
    assert skip.reason == "no_safe_engine"
    assert skip.detail.startswith("internal_snapshots: ")
    mixed = [layer(k, cluster_bits=12 + k % 2) for k in range(12)]
    (skip,) = build_plan(fleet(chain(mixed), policy=Policy(compare_with_base="never"))).skips
    assert skip.reason == "no_safe_engine"
    for code in ("compare_never", "cluster_size_mix"):
        assert code in skip.detail


def test_not_worth_it() -> None:
    layers = [layer(k, mib=500_000, region="eu") for k in range(9)]
    (skip,) = build_plan(fleet(chain(layers))).skips
    assert skip.reason == "not_worth_it"
    assert "USD" in skip.detail


def test_a_person_gets_the_merge_that_is_not_worth_it() -> None:
    layers = [layer(k, mib=500_000, region="eu") for k in range(3)]
    made = chain(layers)
    policy = Policy(budget=EVERYTHING)
    assert build_plan(fleet(made, policy=policy)).actions == ()
    (action,) = build_plan(fleet(made, policy=policy, requested=frozenset({"disk"}))).actions
    assert action.reason == "requested"


def test_keep_layers() -> None:
    layers = [layer(k) for k in range(12)]
    for keep in (1, 2, 4, 10):
        (action,) = build_plan(fleet(chain(layers), policy=Policy(keep_layers=keep, max_chain_length=3))).actions
        assert 11 - len(action.run) + 1 >= keep
    (skip,) = build_plan(fleet(chain(layers), policy=Policy(keep_layers=11))).skips
    assert skip.reason == "keep_layers"


def test_over_budget_names_what_was_lost() -> None:
    chains = [long_chain(12, f"disk-{k}", 100 * k) for k in range(4)]
    plan = build_plan(fleet(*chains, policy=Policy(budget=Budget(actions=2))))
    assert len(plan.actions) == 2
    assert [skip.reason for skip in plan.skips] == ["over_budget"] * 2
    assert all("USD a month" in skip.detail for skip in plan.skips)


def test_a_small_budget_takes_a_smaller_run_of_the_same_chain() -> None:
    layers = [layer(k, mib=20 * k * k) for k in range(14)]
    steals = [Steal(k, k + 1, layers[k + 1].stored_bytes // 2) for k in range(12)]
    made = chain(layers, steals=steals)
    (whole,) = build_plan(fleet(made, policy=Policy(budget=EVERYTHING))).actions
    read = sum(whole.cost.read_bytes.values())
    plan = build_plan(fleet(made, policy=Policy(budget=replace(EVERYTHING, read_bytes=read - 1))))
    (smaller,) = plan.actions
    assert 0 < smaller.benefit.score < whole.benefit.score
    assert sum(smaller.cost.read_bytes.values()) < read


def test_action_ids_are_derived_from_the_inputs() -> None:
    made = long_chain(12)
    (first,) = build_plan(fleet(made)).actions
    (again,) = build_plan(fleet(made, snapshot_id="other", now="2026-04-01T00:00:00+00:00")).actions
    assert first.action_id == again.action_id
    changed = replace(made, layers=(*made.layers[:5], replace(made.layers[5], etag='"x"'), *made.layers[6:]))
    (other,) = build_plan(fleet(changed)).actions
    assert first.action_id != other.action_id
    (moved,) = build_plan(fleet(replace(made, head=replace(made.head, home_region="eu")))).actions
    assert first.action_id != moved.action_id


def test_plan_ids_differ_by_time_and_manifest() -> None:
    made = long_chain(12)
    ids = {
        build_plan(fleet(made)).plan_id,
        build_plan(fleet(made, snapshot_id="other")).plan_id,
        build_plan(fleet(made, now="2026-03-01T12:00:01+00:00")).plan_id,
    }
    assert len(ids) == 3
    assert all(name.startswith("plan-2026030112000") for name in ids)


def test_heads_without_layers_end_as_skips() -> None:
    head = long_chain(3).head
    plan = build_plan(fleet(heads=(head, replace(head, disk_id="b", state="running", chain_layers=50))))
    assert [(skip.disk_id, skip.reason) for skip in plan.skips] == [
        ("b", "running_disk"),
        ("disk", "chain_short_enough"),
    ]


def test_action_codec_refuses_unknown_fields() -> None:
    (action,) = build_plan(fleet(long_chain(12))).actions
    raw = action_to_json(action)
    assert action_from_json(json.loads(json.dumps(raw))) == action
    with pytest.raises(TypeError):
        action_from_json({**raw, "surprise": 1})
    with pytest.raises(KeyError):
        action_from_json({key: value for key, value in raw.items() if key != "run"})


def test_explanations_say_everything() -> None:
    policy = Policy(budget=Budget(actions=1))
    plan = build_plan(
        fleet(long_chain(12, "a"), long_chain(12, "b", 100), policy=policy, tools=Tools(engines=frozenset({"stream"})))
    )
    text = explain(plan, policy.budget)
    for word in ("1 merges", "over_budget", "stream", "chain_too_long", "1 of 1"):
        assert word in text
    done = plan.actions[0].disk_id
    about = explain(plan, policy.budget, done)
    for word in ("not rebase: not_available", "not compose", "not live: offline", "fetched from us", "freed", NOW[:0]):
        assert word in about
    assert "over_budget" in explain(plan, policy.budget, "b" if done == "a" else "a")
    assert "not in plan" in explain(plan, policy.budget, "nobody")
