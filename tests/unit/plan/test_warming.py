"""What a hotspot leads to, in words."""

import pytest

from tasks.plan.warming import WarmTarget, why
from tasks.units import GIB


@pytest.mark.parametrize(
    ("target", "bring_home", "said"),
    [
        (WarmTarget("d", "eu", "remote_misses", "eu", 2 * GIB), False, ("2.0 GiB", "bring_home would merge", "eu")),
        (WarmTarget("d", "eu", "remote_misses", "eu", 2 * GIB), True, ("2.0 GiB", "also merges", "eu")),
        (WarmTarget("d", "ap", "remote_misses", "eu", 2 * GIB), True, ("2.0 GiB", "lives in eu", "cannot help")),
        (WarmTarget("d", "ap", "replaced", "eu"), False, ("merge replaced", "kept until")),
        (WarmTarget("d", "ap", "start_due", "eu", starts=5), False, ("start", "last 5")),
        (WarmTarget("d", "ap", "asked_for", "eu"), False, ("asked for",)),
    ],
)
def test_a_reason_names_its_figures_and_the_other_remedy(target, bring_home, said):
    text = why(target, bring_home=bring_home)
    assert [part for part in said if part not in text] == []
