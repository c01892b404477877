"""A later snapshot takes over what still holds: same rows as from scratch, and little work."""

import shutil
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tasks.analytics.derive import derive, discard_derived, is_derived
from tasks.errors import NotFound, Permanent
from tests.support.forests import DATA, Forest, Layer, forests, layer_extents, write_manifest

COMMON = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
    "phases": (Phase.explicit, Phase.reuse, Phase.generate),  # shrinking would take minutes
}


def rows(directory: Path, dataset: str) -> list[tuple]:
    table = pq.read_table(directory / dataset)
    return sorted(zip(*(column.to_pylist() for column in table.columns), strict=True), key=str)


@st.composite
def evolutions(draw: st.DrawFn) -> list[Forest]:
    """A forest and what became of it: new layers on any layer, heads that moved, layers that are gone or came back."""
    forest = draw(forests(max_layers=10))
    steps = [forest]
    for _ in range(draw(st.integers(1, 3))):
        layers = list(steps[-1].layers)
        for _ in range(draw(st.integers(0, 3))):
            size = draw(st.sampled_from([layer.size for layer in layers]))
            extents = draw(layer_extents(size, 65536, max(65536, min(size, 3 << 20) // 65536 * 65536)))
            layers.append(Layer(draw(st.integers(0, len(layers) - 1)), size, extents))
        heads = draw(st.lists(st.integers(0, len(layers) - 1), max_size=5))
        for index in draw(st.sets(st.integers(0, len(layers) - 1), max_size=1)):
            old = layers[index]
            status = draw(st.sampled_from(["ok", "refused"]))
            layers[index] = Layer(old.parent, old.size, old.extents, status)
        steps.append(Forest(layers, heads, forest.first_no))
    return steps


@settings(max_examples=20, **COMMON)
@given(evolutions())
def test_incremental_and_fresh_agree(steps: list[Forest]) -> None:
    evolve(steps)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=500, **COMMON)
@given(evolutions())
def test_incremental_and_fresh_agree_on_many(steps: list[Forest]) -> None:
    evolve(steps)


def evolve(steps: list[Forest]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        previous = None
        for number, forest in enumerate(steps):
            directory, fresh = Path(folder) / f"step-{number}", Path(folder) / f"fresh-{number}"
            write_manifest(forest, directory)
            shutil.copytree(directory, fresh)
            derive(directory, previous, threads=1)
            derive(fresh, threads=1)
            for dataset in ("shadow_layers", "steals"):
                assert rows(directory, dataset) == rows(fresh, dataset), (number, dataset)
            previous = directory


def chains(disks: int, length: int) -> Forest:
    """Disks on one base, each with a chain of its own."""
    layers = [Layer(None, 8 << 20, [(0, 8 << 20, DATA, 8 << 20)])]
    heads = []
    for _ in range(disks):
        parent = 0
        for k in range(length):
            layers.append(Layer(parent, 8 << 20, [(k << 16, 1 << 16, DATA, 1 << 16)]))
            parent = len(layers) - 1
        heads.append(parent)
    return Forest(layers, heads)


def grown(forest: Forest, disk: int) -> Forest:
    """One more layer on one disk."""
    layers = [*forest.layers, Layer(forest.heads[disk], 8 << 20, [(0, 1 << 16, DATA, 1 << 16)])]
    heads = [len(layers) - 1 if k == disk else head for k, head in enumerate(forest.heads)]
    return Forest(layers, heads)


def test_a_new_tip_recomputes_its_own_run_and_chain_only(tmp_path: Path) -> None:
    forest = chains(disks=20, length=10)
    write_manifest(forest, tmp_path / "old")
    first = derive(tmp_path / "old")
    assert (first.worked_layers, first.layers) == (201, 201)
    write_manifest(grown(forest, 7), tmp_path / "new")
    second = derive(tmp_path / "new", tmp_path / "old")
    # the disk's 11 layers; the base's cone changed with it, so the other disks' runs are context for the base
    assert second.stale_layers == 12
    assert second.worked_layers <= 202


def test_a_new_tip_under_a_base_with_a_head_touches_nothing_else(tmp_path: Path) -> None:
    forest = chains(disks=20, length=10)
    forest.heads.append(0)  # the base is published: heads start afresh there
    write_manifest(forest, tmp_path / "old")
    derive(tmp_path / "old")
    write_manifest(grown(forest, 7), tmp_path / "new")
    second = derive(tmp_path / "new", tmp_path / "old")
    assert (second.stale_layers, second.worked_layers) == (11, 12)


def test_a_dead_branch_between_changed_layers(tmp_path: Path) -> None:
    """Only some layers of the tree are worked, and one of them stands on layers that are not."""
    block = [(0, 1 << 16, DATA, 1 << 16)]
    layers = [Layer(None, 1 << 20, block), *(Layer(0, 1 << 20, block) for _ in range(3))]
    old = Forest(layers, [1])
    new = Forest([*layers, Layer(1, 1 << 20, block)], [2])
    write_manifest(old, tmp_path / "old")
    derive(tmp_path / "old")
    write_manifest(new, tmp_path / "new")
    derive(tmp_path / "new", tmp_path / "old")
    assert rows(tmp_path / "new", "steals") == [(3, 1, 1 << 16, 0, 0, 0)]
    assert {row[0] for row in rows(tmp_path / "new", "shadow_layers") if row[1]} == {1, 3}


def test_nothing_new_means_no_work(tmp_path: Path) -> None:
    forest = chains(disks=3, length=4)
    for name in ("old", "new"):
        write_manifest(forest, tmp_path / name)
    derive(tmp_path / "old")
    again = derive(tmp_path / "new", tmp_path / "old")
    assert (again.worked_layers, again.worked_extents, again.stale_layers, again.buckets) == (0, 0, 0, 0)
    assert rows(tmp_path / "new", "steals") == rows(tmp_path / "old", "steals")


def test_extents_of_layers_that_are_gone_are_ignored(tmp_path: Path) -> None:
    forest = chains(disks=2, length=3)
    write_manifest(forest, tmp_path)
    table = pq.read_table(tmp_path / "extents")
    gone = table.slice(0, 1).to_pylist()[0] | {"layer_no": 9999}
    pq.write_table(table.from_pylist([gone], schema=table.schema), tmp_path / "extents" / "part-9.parquet")
    assert derive(tmp_path).steals == 6


def test_a_manifest_that_contradicts_itself_is_named(tmp_path: Path) -> None:
    write_manifest(chains(disks=1, length=1), tmp_path)
    table = pq.read_table(tmp_path / "extents")
    extra = table.slice(0, 1).to_pylist()[0] | {"start": 9 << 20, "layer_no": 2, "length": -5}
    pq.write_table(table.from_pylist([extra], schema=table.schema), tmp_path / "extents" / "part-9.parquet")
    with pytest.raises(Permanent, match="layer_no 2 do not agree"):
        derive(tmp_path)
    assert not is_derived(tmp_path)
    assert not list(tmp_path.glob(".derive-*"))


def test_no_manifest_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such manifest folder"):
        derive(tmp_path / "nowhere")


def test_a_result_of_an_older_version_is_replaced(tmp_path: Path) -> None:
    write_manifest(chains(disks=1, length=2), tmp_path)
    derive(tmp_path)
    table = pq.read_table(tmp_path / "shadow_layers").drop_columns(["depth"])
    discard_derived(tmp_path)
    for name in ("shadow_layers", "steals"):
        (tmp_path / name).mkdir()
        pq.write_table(table, tmp_path / name / "part-0.parquet")
    assert not is_derived(tmp_path)
    derive(tmp_path)
    assert is_derived(tmp_path)
    assert len(rows(tmp_path, "steals")) == 2
