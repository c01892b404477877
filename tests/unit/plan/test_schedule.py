"""The choice under a budget: never over it, and the best there is."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.plan.cost import total
from tasks.plan.policy import Budget
from tasks.plan.schedule import Choice, Chosen, choose
from tasks.plan.steps import Cost

REGIONS = st.dictionaries(st.sampled_from(["us", "eu", "ap"]), st.integers(0, 50), max_size=3)
COSTS = st.builds(
    Cost,
    read_bytes=REGIONS,
    write_bytes=REGIONS,
    egress_usd=st.integers(0, 20).map(lambda cents: cents / 4),
)
GROUPS = st.lists(st.lists(st.builds(Choice, st.integers(1, 40).map(float), COSTS), min_size=1, max_size=3), max_size=6)
BUDGETS = st.builds(
    Budget,
    read_bytes=st.integers(0, 200),
    write_bytes=st.integers(0, 200),
    region_read_bytes=st.integers(0, 80),
    region_write_bytes=st.integers(0, 80),
    egress_usd=st.integers(0, 40).map(lambda cents: cents / 4),
    actions=st.integers(0, 6),
)


def _taken(groups: list[list[Choice]], chosen: Chosen) -> list[Choice]:
    return [group[pick] for group, pick in zip(groups, chosen.picks, strict=True) if pick >= 0]


def _holds(taken: list[Choice], budget: Budget) -> bool:
    cost = total(choice.cost for choice in taken)
    return (
        len(taken) <= budget.actions
        and sum(cost.read_bytes.values()) <= budget.read_bytes
        and sum(cost.write_bytes.values()) <= budget.write_bytes
        and all(count <= budget.region_read_bytes for count in cost.read_bytes.values())
        and all(count <= budget.region_write_bytes for count in cost.write_bytes.values())
        and cost.egress_usd <= budget.egress_usd
    )


def _brute_force(groups: list[list[Choice]], budget: Budget) -> float:
    plans = itertools.product(*[[None, *group] for group in groups])
    fitting = ([choice for choice in plan if choice is not None] for plan in plans)
    return max(sum(choice.value for choice in plan) for plan in fitting if _holds(plan, budget))


@given(GROUPS, BUDGETS)
def test_never_exceeds_a_budget_and_equals_brute_force(groups: list[list[Choice]], budget: Budget) -> None:
    chosen = choose(groups, budget)
    taken = _taken(groups, chosen)
    assert _holds(taken, budget)
    assert chosen.value == sum(choice.value for choice in taken)
    assert chosen.value == _brute_force(groups, budget)
    assert chosen.bound >= chosen.value


@given(GROUPS, BUDGETS)
def test_with_the_budget_halved_the_better_half_is_kept(groups: list[list[Choice]], budget: Budget) -> None:
    half = Budget(
        budget.read_bytes // 2,
        budget.write_bytes // 2,
        budget.region_read_bytes // 2,
        budget.region_write_bytes // 2,
        budget.egress_usd / 2,
        budget.actions // 2,
    )
    chosen = choose(groups, half)
    assert _holds(_taken(groups, chosen), half)
    assert chosen.value == _brute_force(groups, half)
    assert chosen.value <= choose(groups, budget).value


def _many(count: int, seed: int) -> list[list[Choice]]:
    rng = np.random.default_rng(seed)
    groups = []
    for _ in range(count):
        moved = float(rng.lognormal(20, 1.5))
        worth = float(rng.lognormal(-2, 1))
        region = ["us", "eu", "ap"][int(rng.integers(3))]
        choices = []
        for share in (1.0, 0.5, 0.2):
            amount = int(moved * share)
            cost = Cost({region: amount}, {"us": amount}, {}, 5, amount * 2e-11)
            choices.append(Choice(worth * share**0.6, cost))
        groups.append(choices)
    return groups


@pytest.mark.parametrize("seed", range(3))
def test_a_large_fleet_is_near_its_bound_and_within_its_budgets(seed: int) -> None:
    groups = _many(3000, seed)
    everything = total(group[0].cost for group in groups)
    budget = Budget(
        read_bytes=sum(everything.read_bytes.values()) // 10,
        write_bytes=sum(everything.write_bytes.values()) // 8,
        region_read_bytes=max(everything.read_bytes.values()) // 15,
        region_write_bytes=sum(everything.write_bytes.values()) // 8,
        egress_usd=everything.egress_usd / 12,
        actions=2000,
    )
    chosen = choose(groups, budget)
    assert _holds(_taken(groups, chosen), budget)
    assert chosen.value >= 0.98 * chosen.bound
    assert chosen.value >= _first_come(groups, budget) * 1.2


def _first_come(groups: list[list[Choice]], budget: Budget) -> float:
    taken: list[Choice] = []
    for group in groups:
        if _holds([*taken[-2000:], group[0]], budget):
            taken.append(group[0])
    return sum(choice.value for choice in taken)


def test_a_choice_over_a_whole_budget_is_never_taken() -> None:
    groups = [[Choice(100.0, Cost({"us": 11})), Choice(1.0, Cost({"us": 10}))]]
    assert choose(groups, Budget(region_read_bytes=10)).picks == (1,)


@pytest.mark.parametrize("field", ["read_bytes", "write_bytes", "region_read_bytes", "egress_usd", "actions"])
def test_a_budget_of_zero_forbids(field: str) -> None:
    groups = [[Choice(1.0, Cost({"us": 1}, {"us": 1}, {}, 1, 0.1))]]
    assert choose(groups, Budget(**{field: 0})).picks == (-1,)  # type: ignore[arg-type]


def test_what_costs_nothing_of_a_zero_budget_is_free() -> None:
    groups = [[Choice(1.0, Cost({"us": 1}, {"us": 1}))]]
    assert choose(groups, Budget(egress_usd=0.0)).picks == (0,)


def test_no_disks() -> None:
    assert choose([], Budget()) == Chosen((), 0.0, 0.0)


@settings(max_examples=30)
@given(COSTS, BUDGETS)
def test_one_choice_is_taken_when_it_fits(cost: Cost, budget: Budget) -> None:
    assert (choose([[Choice(1.0, cost)]], budget).picks == (0,)) == _holds([Choice(1.0, cost)], budget)
