"""Manifests with hostile texts and extreme shapes through every query, the shell and the analysis."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.analytics import answers
from tasks.analytics.answers import Limits
from tasks.analytics.checks import run_checks
from tasks.analytics.derive import derive
from tasks.analytics.duck import open_manifest
from tasks.analytics.fleetgen import FleetShape, generate_fleet
from tasks.analytics.paging import Cut
from tasks.analytics.queries import find, queries, run
from tasks.analytics.session import Session
from tests.support.forests import COMPRESSED, DATA, Forest, Layer, write_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_hostile_names_through_every_query(tmp_path: Path) -> None:
    generate_fleet(tmp_path, FleetShape(800, hostile_names=True, numbered_by_time=True))
    derive(tmp_path)
    with open_manifest(tmp_path) as connection:
        names = [row[0] for row in run(connection, find("chain_length")).rows]
        hostile = next(name for name in names if "<img" in name)
        for query in queries().values():
            required = {p.name: hostile for p in query.parameters if p.default is None}
            run(connection, query, required)
            answers.page(tmp_path, query, required, {}, Limits(), Cut(search="<img", limit=10), keep=False)
        assert answers.page(tmp_path, find("chain_length"), {}, {}, Limits(), Cut(search=hostile)).total == 1
        assert {failure.severity for failure in run_checks(connection)} <= {"warn"}
    with Session(tmp_path, {}) as session:
        assert session.run("SELECT count(*) AS n FROM broken_chains()")[0].to_pylist()[0]["n"] > 3


def test_layer_numbers_do_not_matter(tmp_path: Path) -> None:
    """The same fleet with its numbers shuffled, worked in many small buckets."""
    generate_fleet(tmp_path / "tree", FleetShape(2000, seed=5))
    layers = pq.read_table(tmp_path / "tree" / "layers")
    new = np.random.default_rng(1).permutation(layers.num_rows + 1).astype(np.int32)
    for dataset, columns in (("layers", ("layer_no", "parent_no")), ("heads", ("tip_no",)), ("extents", ("layer_no",))):
        table = pq.read_table(tmp_path / "tree" / dataset)
        for name in columns:
            values = [None if old is None else int(new[old]) for old in table[name].to_pylist()]
            table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.int32()))
        (tmp_path / "shuffled" / dataset).mkdir(parents=True)
        order = [(name, "ascending") for name in ("layer_no", "start") if name in table.column_names]
        pq.write_table(table.sort_by(order) if order else table, tmp_path / "shuffled" / dataset / "part-0.parquet")
    derive(tmp_path / "tree")
    assert derive(tmp_path / "shuffled", bucket_rows=5_000).buckets > 5
    assert visible(tmp_path / "tree", np.arange(len(new))) == visible(tmp_path / "shuffled", np.argsort(new))


def visible(folder: Path, old_number: np.ndarray) -> dict[int, tuple]:
    """Visible bytes by kind, by the layer's number in the original fleet."""
    table = pq.read_table(folder / "shadow_layers")
    names = [name for name in table.column_names if name.startswith("visible_")]
    rows = zip(*(table[name].to_pylist() for name in ("layer_no", *names)), strict=True)
    return {int(old_number[number]): tuple(sums) for number, *sums in rows}


def test_a_base_with_ten_thousand_children(tmp_path: Path) -> None:
    size = 64 << 20
    base = Layer(None, size, [(0, size, DATA, size)])
    children = [Layer(0, size, [((k % 1000) << 16, 1 << 16, DATA, 1 << 16)]) for k in range(10_000)]
    write_manifest(Forest([base, *children], list(range(1, 10_001))), tmp_path)
    assert derive(tmp_path).steals == 10_000
    rows = {row["layer_no"]: row for row in pq.read_table(tmp_path / "shadow_layers").to_pylist()}
    assert rows[1]["visible_data_bytes"] == size  # each child hides another place: some head sees all of it
    with open_manifest(tmp_path) as connection:
        length = run(connection, find("chain_length")).dicts()
    assert {(row["layers"], row["private_layers"]) for row in length} == {(2, 1)}


def test_what_all_ten_thousand_children_overwrite_is_shadowed(tmp_path: Path) -> None:
    size = 1 << 20
    children = [Layer(0, size, [(0, 1 << 16, DATA, 1 << 16)]) for _ in range(10_000)]
    write_manifest(Forest([Layer(None, size, [(0, size, DATA, size)]), *children], list(range(1, 10_001))), tmp_path)
    derive(tmp_path)
    base = pq.read_table(tmp_path / "shadow_layers").to_pylist()[0]
    assert base["data_bytes"] - base["visible_data_bytes"] == 1 << 16


def test_a_chain_of_five_thousand_layers(tmp_path: Path) -> None:
    size, count = 8 << 20, 5_000
    layers = [Layer(None, size, [(0, size, DATA, size)])]
    layers += [Layer(k, size, [((k * 37 % 128) << 16, 3 << 15, DATA, 3 << 15)]) for k in range(count)]
    write_manifest(Forest(layers, [count]), tmp_path)
    derive(tmp_path)
    table = pq.read_table(tmp_path / "shadow_layers")
    assert sum(table["visible_data_bytes"].to_pylist()) == size  # one head sees every byte exactly once
    with open_manifest(tmp_path) as connection:
        assert run(connection, find("chain_length")).dicts()[0]["layers"] == count + 1
        assert len(run(connection, find("visible_by_head"), {"disk_id": "d0"}).rows) == count + 1


def test_extreme_sizes_cost_neither_memory_nor_time(tmp_path: Path) -> None:
    """A disk of 8 PiB with something at either end, over a base that is full from end to end."""
    size = 8 << 50
    base = Layer(None, size, [(0, size, DATA, size)])
    edges = [(0, 1 << 16, DATA, 1 << 16), (size - (1 << 16), 1 << 16, DATA, 1 << 16)]
    shrunk = Layer(1, size // 2 + 512, [(size // 2, 512, COMPRESSED, 100)])
    write_manifest(Forest([base, Layer(0, size, edges), shrunk], [2]), tmp_path)
    derive(tmp_path)
    rows = pq.read_table(tmp_path / "shadow_layers").to_pylist()
    assert rows[0]["visible_data_bytes"] == size // 2 - (1 << 16)
    assert rows[1]["visible_data_bytes"] == 1 << 16
    assert rows[2]["visible_compressed_stored_bytes"] == 100


def test_a_thousand_layers_that_shrink_one_after_the_other(tmp_path: Path) -> None:
    count, step = 1_000, 1 << 16
    sizes = [(count + 1 - k) * step + 512 for k in range(count)]
    layers = [Layer(k - 1 if k else None, sizes[k], [(0, sizes[k], DATA, sizes[k])]) for k in range(count)]
    write_manifest(Forest(layers, [count - 1, 0]), tmp_path)
    derive(tmp_path)
    rows = pq.read_table(tmp_path / "shadow_layers").to_pylist()
    assert rows[0]["visible_data_bytes"] == sizes[0]  # the base has a head of its own
    assert all(row["visible_data_bytes"] == 0 for row in rows[1:-1])
    assert rows[-1]["visible_data_bytes"] == sizes[-1]
