"""Which engine takes a run when several may."""

from dataclasses import replace

from tasks.plan.cost import parts_of
from tasks.plan.engine import Verdict, choose_engine
from tasks.plan.inputs import ChainInput, Prices, Steal, Tools
from tasks.plan.policy import Policy, Weights
from tasks.plan.runs import Span
from tests.support.plans import PRICES, chain, layer


def _choose(made: ChainInput, policy: Policy | None = None, prices: Prices = PRICES) -> Verdict:
    return choose_engine(parts_of(made, Span(0, len(made.private) - 1)), policy or Policy(), prices, Tools())


def test_a_small_run_is_rebased_by_the_talks_rule() -> None:
    verdict = _choose(chain([layer(k, mib=80) for k in range(3)] + [layer(9, mib=4000)]))
    assert verdict.engine == "rebase"
    assert verdict.reason.startswith("small_parent: ")


def test_a_run_over_300_mib_is_not() -> None:
    verdict = _choose(chain([layer(k, mib=160) for k in range(2)] + [layer(9)]))
    assert verdict.engine != "rebase"
    assert verdict.refused["rebase"].startswith("more_bytes: ")


def test_the_rule_does_not_read_a_base_in_another_region() -> None:
    verdict = _choose(chain([layer(0), layer(1), layer(9, region="eu", mib=4000)]))
    assert verdict.engine != "rebase"


def test_never_compare() -> None:
    verdict = _choose(chain([layer(0), layer(1), layer(9)]), Policy(compare_with_base="never"))
    assert verdict.engine != "rebase"
    assert verdict.refused["rebase"].startswith("compare_never")


def test_large_dense_layers_are_composed() -> None:
    verdict = _choose(chain([layer(k, mib=2000) for k in range(3)] + [layer(9)]))
    assert verdict.engine == "compose"
    assert verdict.cost is not None
    assert sum(verdict.cost.read_bytes.values()) + sum(verdict.cost.write_bytes.values()) < 16 << 20


def test_sparse_leftovers_of_large_layers_are_not_copied_with_their_garbage() -> None:
    layers = [layer(0, mib=2000), layer(1, mib=2000), layer(9)]
    made = chain(layers, steals=[Steal(0, 1, 1900 << 20)])
    verdict = _choose(made)
    assert verdict.cost is not None
    assert sum(verdict.cost.copy_bytes.values()) <= 2001 << 20  # the top, not the leftovers


def test_expected_equal_data_makes_comparison_pay() -> None:
    layers = [layer(0, mib=400), layer(1, mib=400), layer(9, mib=1)]
    policy = Policy(weights=replace(Weights(), expected_equal_share=0.9, horizon_months=120))
    assert _choose(chain(layers), policy).engine == "rebase"
    assert _choose(chain(layers)).engine != "rebase"


def test_the_reason_of_the_only_safe_engine() -> None:
    layers = [layer(0, mib=900), layer(1, mib=900, cluster_bits=12), layer(9)]
    verdict = _choose(chain(layers))
    assert verdict.engine == "rebase"
    assert verdict.reason.startswith("only_safe_engine: ")
