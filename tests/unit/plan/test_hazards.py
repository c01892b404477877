"""Each hazard by its name: which engines it refuses, and that the others still take the run."""

from dataclasses import replace
from typing import Any

import pytest

from tasks.plan.cost import parts_of
from tasks.plan.engine import ORDER, choose_engine
from tasks.plan.hazards import RULES, Run, refusals
from tasks.plan.inputs import LayerInput, Tools
from tasks.plan.policy import Policy
from tasks.plan.reasons import HAZARDS
from tasks.plan.runs import Span
from tasks.units import GIB, MIB
from tests.support.plans import PRICES, chain, layer

Layers = list[LayerInput]


def _run(changes: dict[int, dict[str, Any]], count: int = 4) -> Layers:
    return [replace(layer(k), **changes.get(k, {})) for k in range(count)]


def _refused(layers: Layers, base: LayerInput | None, policy: Policy, qemu: tuple[int, ...]) -> dict[str, str]:
    run = Run(tuple(layers), (base,) if base else (), policy, Tools(qemu=qemu))
    return {engine: refusal.code for engine, refusal in refusals(run).items()}


# name, changes by position (0 = top of the run, 4 = base), policy, {engine: code} refused
CASES: list[tuple[str, dict[int, dict[str, Any]], Policy, dict[str, str]]] = [
    ("same 64K v3", {}, Policy(), {}),
    ("short_parent", {1: {"virtual_size": 8 * GIB}}, Policy(), {"stream": "short_parent"}),
    ("short_parent deeper", {3: {"virtual_size": 8 * GIB}}, Policy(), {"stream": "short_parent"}),
    (
        "short_parent, base longer still",
        {1: {"virtual_size": 8 * GIB}, 4: {"virtual_size": 12 * GIB}},
        Policy(),
        {"stream": "short_parent"},
    ),
    ("plain grow", {k: {"virtual_size": 8 * GIB} for k in (1, 2, 3, 4)}, Policy(), {}),
    ("parent longer than the top", {1: {"virtual_size": 12 * GIB}}, Policy(), {}),
    (
        "short_parent inside a cluster",
        {1: {"virtual_size": 8 * GIB + 4096}},
        Policy(),
        {"stream": "short_parent", "compose": "short_parent"},
    ),
    (
        "cluster_size_mix, smaller below",
        {1: {"cluster_bits": 12}},
        Policy(),
        {"stream": "cluster_size_mix", "compose": "cluster_size_mix"},
    ),
    (
        "cluster_size_mix, larger below",
        {2: {"cluster_bits": 21}},
        Policy(),
        {"stream": "cluster_size_mix", "compose": "cluster_size_mix"},
    ),
    ("another cluster size in the base only", {4: {"cluster_bits": 12}}, Policy(), {}),
    (
        "extended_l2 below",
        {1: {"extended_l2": True, "incompatible_features": 16}},
        Policy(),
        {"stream": "extended_l2", "compose": "extended_l2"},
    ),
    (
        "extended_l2 top",
        {0: {"extended_l2": True, "incompatible_features": 16}},
        Policy(),
        {"stream": "extended_l2", "compose": "extended_l2"},
    ),
    ("v2 top", {0: {"version": 2}}, Policy(), {"stream": "v2"}),
    ("v2 below", {1: {"version": 2}}, Policy(), {"stream": "v2"}),
    ("bitmaps_present below", {1: {"bitmaps": 1}}, Policy(), dict.fromkeys(RULES, "bitmaps_present")),
    ("bitmaps_present top", {0: {"bitmaps": 1}}, Policy(), dict.fromkeys(RULES, "bitmaps_present")),
    ("bitmaps below, may be dropped", {1: {"bitmaps": 1}}, Policy(drop_bitmaps=True), {}),
    (
        "bitmaps top, may be dropped",
        {0: {"bitmaps": 1}},
        Policy(drop_bitmaps=True),
        {"rebase": "bitmaps_present", "stream": "bitmaps_present"},
    ),
    ("bitmaps in the base stay there", {4: {"bitmaps": 1}}, Policy(), {}),
    ("internal_snapshots", {2: {"snapshots": 1}}, Policy(), dict.fromkeys(RULES, "internal_snapshots")),
    ("internal snapshots in the base stay there", {4: {"snapshots": 1}}, Policy(), {}),
    ("external_data_file", {1: {"incompatible_features": 4}}, Policy(), dict.fromkeys(RULES, "external_data_file")),
    ("dirty", {1: {"incompatible_features": 1}}, Policy(), dict.fromkeys(RULES, "dirty")),
    ("corrupt", {1: {"incompatible_features": 2}}, Policy(), dict.fromkeys(RULES, "corrupt")),
    ("unknown_features", {1: {"incompatible_features": 1 << 33}}, Policy(), dict.fromkeys(RULES, "unknown_features")),
    (
        "compressed_mix",
        {
            0: {"compressed_bytes": MIB},
            1: {"compressed_bytes": MIB, "compression_type": "zstd", "incompatible_features": 8},
        },
        Policy(),
        {"compose": "compressed_mix"},
    ),
    ("compressed, one type", {0: {"compressed_bytes": MIB}, 1: {"compressed_bytes": MIB}}, Policy(), {}),
    ("zstd without a compressed cluster", {1: {"compression_type": "zstd", "incompatible_features": 8}}, Policy(), {}),
    (
        "unaligned_size",
        {0: {"virtual_size": 10 * GIB + 77}},
        Policy(),
        {"rebase": "unaligned_size", "stream": "unaligned_size"},
    ),
    ("compare never", {}, Policy(compare_with_base="never"), {"rebase": "compare_never"}),
    (
        "compare always",
        {},
        Policy(compare_with_base="always"),
        {"stream": "compare_always", "compose": "compare_always"},
    ),
]


@pytest.mark.parametrize(("changes", "policy", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_hazard(changes: dict[int, dict[str, Any]], policy: Policy, expected: dict[str, str]) -> None:
    layers = _run(changes, 5)
    assert _refused(layers[:4], layers[4], policy, (7, 2, 22)) == expected


def test_every_code_has_a_sentence() -> None:
    assert {code for rules in RULES.values() for code, _ in rules} <= set(HAZARDS)
    assert {code for case in CASES for code in case[3].values()} <= set(HAZARDS)


@pytest.mark.parametrize(
    ("qemu", "below", "expected"),
    [
        ((7, 2, 22), {}, None),
        ((8, 1, 5), {}, None),
        ((8, 2, 0), {}, "qemu_version"),
        ((10, 1, 0), {}, "qemu_version"),
        ((10, 2, 0), {}, None),
    ],
)
def test_qemu_version_gitlab_3174(qemu: tuple[int, ...], below: dict[str, Any], expected: str | None) -> None:
    layers = _run({1: {"cluster_bits": 12}}, 3)
    assert _refused(layers[:2], layers[2], Policy(), qemu).get("rebase") == expected
    larger = _run({1: {"cluster_bits": 21}}, 3)
    assert "rebase" not in _refused(larger[:2], larger[2], Policy(), qemu)
    in_base = _run({2: {"cluster_bits": 12}}, 3)
    assert _refused(in_base[:2], in_base[2], Policy(), qemu).get("rebase") == expected


def test_qemu_version_short_parent_before_7_2_7() -> None:
    layers = _run({1: {"virtual_size": 8 * GIB}}, 3)
    assert _refused(layers[:2], layers[2], Policy(), (7, 2, 6))["rebase"] == "short_parent"
    assert "rebase" not in _refused(layers[:2], layers[2], Policy(), (7, 2, 7))


def test_short_parent_without_a_base_hides_nothing() -> None:
    layers = _run({1: {"virtual_size": 8 * GIB}}, 2)
    assert "stream" not in _refused(layers, None, Policy(), (7, 2, 22))


@pytest.mark.parametrize("case", [case for case in CASES if len(case[3]) < 3], ids=lambda case: case[0])
def test_a_mix_goes_to_an_engine_that_takes_it(case: tuple[str, dict[int, dict[str, Any]], Policy, Any]) -> None:
    _, changes, policy, expected = case
    made = chain(_run(changes, 5))
    verdict = choose_engine(parts_of(made, Span(0, 3)), policy, PRICES, Tools())
    assert verdict.engine in set(ORDER) - set(expected)
    assert verdict.reason
    assert set(verdict.refused) == {*ORDER, "live"} - {verdict.engine}
    assert {name: verdict.refused[name].split(":")[0] for name in expected} == expected


@pytest.mark.parametrize("case", [case for case in CASES if len(case[3]) == 3], ids=lambda case: case[0])
def test_refuse_names_the_hazard_of_every_engine(case: tuple[str, dict[int, dict[str, Any]], Policy, Any]) -> None:
    _, changes, policy, expected = case
    verdict = choose_engine(parts_of(chain(_run(changes, 5)), Span(0, 3)), policy, PRICES, Tools())
    assert verdict.engine is None
    assert {name: text.split(":")[0] for name, text in verdict.refused.items() if name != "live"} == expected
