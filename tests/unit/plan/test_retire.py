"""The verdicts of retirement: tables of cases, and properties over random forests."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.plan.policy import Safety
from tasks.plan.retire import Evidence, Forest, Verdicts, asked_for_warmth, grace_seconds, judge, reachable

HOUR = 3600.0
OPEN = Safety(max_retired_share=1.0)


def forest(parents: dict[str, str | None], *, refused: tuple[str, ...] = (), age_hours: float = 1000) -> Forest:
    """A forest of 1 MiB layers from `{layer: backing}`."""
    ids = list(parents)
    return Forest(
        ids=ids,
        parent=np.array([ids.index(p) if p else -1 for p in parents.values()], np.int64),
        refused=np.array([i in refused for i in ids]),
        size_bytes=np.full(len(ids), 1 << 20, np.int64),
        region=["r"] * len(ids),
        age_seconds=np.full(len(ids), age_hours * HOUR),
    )


def evidence(*roots: str, tombs: dict[str, float] | None = None, **changes: object) -> Evidence:
    """Roots and tombstones (ages in hours); counts that raise no guard."""
    ages = {layer: hours * HOUR for layer, hours in (tombs or {}).items()}
    plain = Evidence(frozenset(roots), {}, ages, heads_now=len(roots), heads_before=len(roots), layers_before=0)
    return dataclasses.replace(plain, **changes)


def names(f: Forest, positions: tuple[int, ...]) -> list[str]:
    return [f.ids[position] for position in positions]


CHAIN = {"base": None, "old1": "base", "old2": "old1", "tip": "base"}


def test_unreached_layer_is_marked_first() -> None:
    f = forest(CHAIN)
    verdicts = judge(f, evidence("tip"), OPEN)
    assert sorted(names(f, verdicts.mark)) == ["old1", "old2"]
    assert verdicts.sweep == ()
    assert verdicts.kept == 2


def test_young_layer_is_not_even_marked() -> None:
    f = forest(CHAIN, age_hours=71)
    assert judge(f, evidence("tip"), OPEN).mark == ()


@pytest.mark.parametrize(("hours", "swept"), [(71.9, []), (72.0, ["old2", "old1"])])
def test_sweep_only_after_the_grace_children_first(hours: float, swept: list[str]) -> None:
    f = forest(CHAIN)
    verdicts = judge(f, evidence("tip", tombs={"old1": hours, "old2": hours}), OPEN)
    assert names(f, verdicts.sweep) == swept
    assert verdicts.waiting == 2 - len(swept)


def test_a_cold_replacement_holds_its_layer_and_what_that_is_built_on() -> None:
    f = forest({**CHAIN, "other": "base"})
    tombs = {"old1": 80, "old2": 80, "other": 80}
    verdicts = judge(f, evidence("tip", tombs=tombs, cold={"old2": "why"}), OPEN)
    assert sorted(names(f, verdicts.cold)) == ["old1", "old2"]
    assert names(f, verdicts.sweep) == ["other"]
    on_top = judge(f, evidence("tip", tombs=tombs, cold={"old1": "why"}), OPEN)
    assert names(f, on_top.cold) == ["old1"]
    assert sorted(names(f, on_top.sweep)) == ["old2", "other"]


def test_cold_counts_for_nothing_before_the_grace_is_over_and_for_what_is_needed() -> None:
    f = forest(CHAIN)
    verdicts = judge(f, evidence("tip", tombs={"old2": 71, "base": 80}, cold={"old2": "why", "base": "why"}), OPEN)
    assert verdicts.cold == ()
    assert verdicts.waiting == 1


@pytest.mark.parametrize(("hours", "asked"), [(71.9, False), (72, True), (95.9, True), (96, False)])
def test_the_wait_for_a_warm_replacement_is_bounded(hours: float, asked: bool) -> None:
    assert bool(asked_for_warmth({"old": hours * HOUR}, Safety(warm_wait_hours=24))) is asked


def test_tombstoned_layer_with_a_new_child_under_a_head_is_saved() -> None:
    f = forest({**CHAIN, "clone": "old1"})
    verdicts = judge(f, evidence("tip", "clone", tombs={"old1": 100, "old2": 100}), OPEN)
    assert names(f, verdicts.save) == ["old1"]
    assert names(f, verdicts.sweep) == ["old2"]


def test_refused_layer_keeps_itself_and_its_tree() -> None:
    f = forest(CHAIN, refused=("old2",))
    verdicts = judge(f, evidence("tip", tombs={"old1": 100, "old2": 100}), OPEN)
    assert verdicts.sweep == ()
    assert sorted(names(f, verdicts.save)) == ["old1", "old2"]


def test_pin_of_an_unfinished_action_keeps_its_chain() -> None:
    f = forest(CHAIN)
    ev = evidence("tip", tombs={"old1": 100, "old2": 100}, pins={"old2": "action:a"})
    assert judge(f, ev, OPEN).sweep == ()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"roots": frozenset(), "heads_now": 0, "heads_before": 0}, "no_heads"),
        ({"heads_now": 1, "heads_before": 2}, "heads_shrank"),
        ({"layers_before": 6}, "layers_shrank"),
    ],
)
def test_guards_stop_every_deletion(changes: dict[str, object], code: str) -> None:
    ev = evidence("tip", tombs={"old1": 100, "old2": 100}, **changes)
    verdicts = judge(forest(CHAIN), ev, OPEN)
    assert verdicts.stopped.startswith(code)
    assert (verdicts.sweep, verdicts.mark) == ((), ())


def test_run_that_wants_too_large_a_share_stops_and_says_why() -> None:
    verdicts = judge(forest(CHAIN), evidence("tip", tombs={"old1": 100, "old2": 100}), Safety())
    assert verdicts.stopped == "share_exceeded: 2 of 4 layers are due, more than 20% of the fleet"
    assert verdicts.sweep == ()


@pytest.mark.parametrize("cap", [{"max_retired_layers": 1}, {"max_retired_bytes": (2 << 20) - 1}])
def test_caps_leave_the_rest_to_the_next_run(cap: dict[str, int]) -> None:
    f = forest(CHAIN)
    safety = dataclasses.replace(OPEN, **cap)
    verdicts = judge(f, evidence("tip", tombs={"old1": 100, "old2": 100}), safety)
    assert names(f, verdicts.sweep) == ["old2"]
    assert verdicts.capped == 1


def test_grace_has_a_floor_that_only_an_explicit_override_lowers() -> None:
    assert grace_seconds(Safety(grace_hours=1)) == 72 * HOUR
    assert grace_seconds(Safety(grace_hours=1, allow_short_grace=True)) == HOUR
    assert grace_seconds(Safety(grace_hours=100)) == 100 * HOUR


def test_cycle_is_neither_endless_nor_swept() -> None:
    f = forest({"tip": None, "a": "b", "b": "a", "c": "a"})
    verdicts = judge(f, evidence("tip", tombs=dict.fromkeys("abc", 100.0)), OPEN)
    assert names(f, verdicts.sweep) == ["c"]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Forest, Evidence]:
    count = draw(st.integers(1, 30))
    ids = [f"l{i}" for i in range(count)]
    parents: dict[str, str | None] = {}
    for i in range(count):
        above = draw(st.integers(-1, i - 1))
        parents[ids[i]] = ids[above] if above >= 0 else None
    some = st.sets(st.sampled_from(ids))
    f = forest(parents, refused=tuple(draw(some)))
    tombs = {i: draw(st.sampled_from([0.0, 71.0, 72.0, 500.0])) for i in draw(some)}
    roots = draw(st.sets(st.sampled_from(ids), min_size=1))
    return f, evidence(*roots, tombs=tombs, pins=dict.fromkeys(draw(some), "action:x"))


def _check(f: Forest, ev: Evidence, verdicts: Verdicts) -> None:
    kept = reachable(f, ev.roots, ev.pins)
    for position in (*verdicts.sweep, *verdicts.mark):
        assert not kept[position]
    gone = set(verdicts.sweep)
    for position in range(len(f.ids)):
        if position not in gone:
            # whoever stays reachable keeps its backing layer
            assert not kept[position] or f.parent[position] not in gone
    for done, position in enumerate(verdicts.sweep):
        below = {int(f.parent[later]) for later in verdicts.sweep[done + 1 :]}
        assert position not in below
    assert all(ev.tombstone_age[f.ids[p]] >= 72 * HOUR for p in verdicts.sweep)


@given(cases())
def test_nothing_reachable_is_swept_and_children_go_first(case: tuple[Forest, Evidence]) -> None:
    f, ev = case
    _check(f, ev, judge(f, ev, OPEN))
