"""The kernel against brute force, over random forests."""

import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tasks.analytics.derive import derive
from tests.support import oracle
from tests.support.forests import Forest, Layer, crowded_forests, forests, write_manifest

KINDS = ("data_bytes", "zero_bytes", "compressed_bytes", "compressed_stored_bytes")
COMMON = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
    "phases": (Phase.explicit, Phase.reuse, Phase.generate),  # shrinking would take minutes
}


def check(forest: Forest, order: list[int], files: int = 1, **options: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_manifest(forest, directory, order, files)
        derive(directory, threads=1, **options)
        compare(forest, order, directory)


def compare(forest: Forest, order: list[int], directory: Path) -> None:
    """Layer sums, and per head the sums that follow from the steal matrix."""
    index = {number + forest.first_no: k for k, number in enumerate(order)}
    layers = {index[row["layer_no"]]: row for row in pq.read_table(directory / "shadow_layers").to_pylist()}
    seen, held, alive = oracle.visible(forest), oracle.allocated(forest), oracle.live(forest)
    assert set(layers) == set(held)
    for layer, row in layers.items():
        assert row["live"] == (layer in alive), layer
        assert [row[kind] for kind in KINDS] == held[layer], layer
        assert [row[f"visible_{kind}"] for kind in KINDS] == list(seen.get(layer, [0, 0, 0, 0])), layer
    steals = {
        (index[row["upper_no"]], index[row["lower_no"]]): [row[kind] for kind in KINDS]
        for row in pq.read_table(directory / "steals").to_pylist()
    }
    for tip in set(forest.heads):
        shown = oracle.summed(forest, oracle.visible_bits(forest, tip))
        chain = oracle.chain_of(forest, tip) or []
        for k, layer in enumerate(chain):
            left = list(held[layer])
            for upper in chain[:k]:
                left = [a - b for a, b in zip(left, steals.get((upper, layer), [0, 0, 0, 0]), strict=True)]
            assert left == list(shown.get(layer, [0, 0, 0, 0])), (tip, layer)


@st.composite
def numbered(draw: st.DrawFn) -> tuple[Forest, list[int]]:
    forest = draw(forests())
    return forest, draw(st.permutations(range(len(forest.layers))))


@settings(max_examples=100, **COMMON)
@given(numbered(), st.integers(1, 3))
def test_every_byte_agrees_with_brute_force(case: tuple[Forest, list[int]], files: int) -> None:
    check(*case, files=files)


@settings(max_examples=30, **COMMON)
@given(numbered(), st.integers(1, 6))
def test_small_buckets_and_split_trees_change_nothing(case: tuple[Forest, list[int]], rows: int) -> None:
    check(*case, bucket_rows=rows)


@settings(max_examples=15, **COMMON)
@given(crowded_forests())
def test_many_places_agree_with_brute_force(forest: Forest) -> None:
    check(forest, list(range(len(forest.layers))))


@settings(max_examples=15, **COMMON)
@given(crowded_forests())
def test_where_on_the_disk_things_lie_changes_nothing(forest: Forest) -> None:
    """Far out there are more blocks than can have a row each."""
    with tempfile.TemporaryDirectory() as folder:
        for name, shift in (("near", 0), ("far", 1 << 46)):
            moved = [
                Layer(layer.parent, layer.size + shift, [(start + shift, *rest) for start, *rest in layer.extents])
                for layer in forest.layers
            ]
            write_manifest(Forest(moved, forest.heads), Path(folder) / name)
            derive(Path(folder) / name, threads=1)
        near, far = (pq.read_table(Path(folder) / name / "steals") for name in ("near", "far"))
        assert near.num_rows
        assert near.equals(far)
        near, far = (pq.read_table(Path(folder) / name / "shadow_layers") for name in ("near", "far"))
        kept = [name for name in near.column_names if not name.endswith("_key")]
        assert near.select(kept).equals(far.select(kept))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=1000, **COMMON)
@given(crowded_forests())
def test_many_places_of_a_thousand_forests_agree_with_brute_force(forest: Forest) -> None:
    check(forest, list(range(len(forest.layers))))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=3000, **COMMON)
@given(numbered(), st.integers(1, 3))
def test_thousands_of_forests_agree_with_brute_force(case: tuple[Forest, list[int]], files: int) -> None:
    check(*case, files=files)
