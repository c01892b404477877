"""Verdicts of the first look: state and policy in, code out."""

from dataclasses import replace

import pytest

from tasks.plan.candidates import screen, window_open
from tasks.plan.inputs import HeadInput
from tasks.plan.policy import Policy
from tasks.plan.steps import Skip
from tasks.units import GIB, MIB
from tests.support.plans import NOW

HEAD = HeadInput("d", "tip", "us", chain_layers=12, private_layers=10, parent_bytes=50 * MIB, stored_bytes=4 * GIB)
SHORT = replace(HEAD, chain_layers=8)

CASES = [
    ("long", HEAD, Policy(), "chain_too_long"),
    ("exactly at the limit", SHORT, Policy(), "chain_short_enough"),
    ("limit of one", replace(HEAD, chain_layers=2), Policy(max_chain_length=1), "chain_too_long"),
    ("running", replace(HEAD, state="running"), Policy(), "running_disk"),
    ("protected", HEAD, Policy(protected_disks=("x", "d")), "protected_disk"),
    ("leased", replace(HEAD, lease_action="a", lease_expires_at="2026-03-01T12:00:01+00:00"), Policy(), "leased"),
    (
        "lease over",
        replace(HEAD, lease_action="a", lease_expires_at="2026-03-01T11:59:59+00:00"),
        Policy(),
        "chain_too_long",
    ),
    ("failed a moment ago", replace(HEAD, failed_at="2026-03-01T06:00:01+00:00"), Policy(), "failed_before"),
    ("failed long ago", replace(HEAD, failed_at="2026-03-01T05:59:59+00:00"), Policy(), "chain_too_long"),
    ("window closed", HEAD, Policy(window="22:00-06:00"), "outside_window"),
    ("window open", HEAD, Policy(window="11:00-13:00"), "chain_too_long"),
    ("dangling head", replace(HEAD, status="dangling"), Policy(), "head_dangling"),
    ("unreadable head", replace(HEAD, status="refused"), Policy(), "head_refused"),
    ("unknown trouble", replace(HEAD, status="new trouble"), Policy(), "head_refused"),
    ("cycle", replace(HEAD, status="cycle"), Policy(), "backing_cycle"),
    ("missing backing", replace(HEAD, status="missing_backing"), Policy(), "missing_backing"),
    ("refused layer", replace(HEAD, status="refused_layer"), Policy(), "refused_layer"),
    ("a refused layer counts before the length", replace(SHORT, status="refused_layer"), Policy(), "refused_layer"),
    ("all shared", replace(HEAD, private_layers=0), Policy(), "shared_layer"),
    ("one private layer", replace(HEAD, private_layers=1), Policy(), "shared_layer"),
    ("small parent", SHORT, Policy(rebase_small_parents=True), "small_parent"),
    (
        "parent over the limit",
        replace(SHORT, parent_bytes=301 * MIB),
        Policy(rebase_small_parents=True),
        "chain_short_enough",
    ),
    (
        "small but shared parent",
        replace(SHORT, private_layers=1),
        Policy(rebase_small_parents=True),
        "chain_short_enough",
    ),
    ("remote", replace(SHORT, remote_layers=3), Policy(bring_home=True), "remote_chain"),
    ("remote may stay", replace(SHORT, remote_layers=3), Policy(), "chain_short_enough"),
    ("half overwritten", replace(SHORT, shadowed_bytes=2 * GIB), Policy(), "shadowed_bytes"),
    ("less than half", replace(SHORT, shadowed_bytes=2 * GIB - 1), Policy(), "chain_short_enough"),
    ("half of little", replace(SHORT, stored_bytes=GIB, shadowed_bytes=GIB - 1), Policy(), "chain_short_enough"),
    ("a snapshot is a head like any other", replace(HEAD, kind="snapshot"), Policy(), "chain_too_long"),
]


@pytest.mark.parametrize(("head", "policy", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_verdict(head: HeadInput, policy: Policy, expected: str) -> None:
    verdict = screen(head, policy, NOW)
    assert (verdict.reason if isinstance(verdict, Skip) else verdict) == expected


def test_a_person_may_ask_for_a_short_chain_outside_the_window_but_not_for_a_running_disk() -> None:
    policy = Policy(window="22:00-06:00")
    assert screen(SHORT, policy, NOW, requested=True) == "requested"
    verdict = screen(replace(SHORT, state="running"), policy, NOW, requested=True)
    assert isinstance(verdict, Skip)
    assert verdict.reason == "running_disk"


@pytest.mark.parametrize(
    ("window", "clock", "expected"),
    [
        ("", "00:00", True),
        ("22:00-06:00", "21:59", False),
        ("22:00-06:00", "22:00", True),
        ("22:00-06:00", "00:00", True),
        ("22:00-06:00", "05:59", True),
        ("22:00-06:00", "06:00", False),
        ("01:00-02:00", "00:59", False),
        ("01:00-02:00", "01:00", True),
        ("01:00-02:00", "02:00", False),
    ],
)
def test_window(window: str, clock: str, expected: bool) -> None:
    assert window_open(window, f"2026-03-01T{clock}:00+00:00") is expected
    assert window_open(window, f"2026-03-01T{clock}:30+00:00") is expected


def test_window_is_in_utc() -> None:
    assert window_open("22:00-23:00", "2026-03-02T00:30:00+02:00")
