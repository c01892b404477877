"""The slices of small chains, drawn by hand. Exactness against a real guest: tests/integration/cache/test_warm.py."""

import numpy as np

from tasks.cache.slices import DATA, OPEN, TABLE, ChainLayer, wanted_slices
from tasks.cache.tables import LayerTables
from tasks.cache.windows import WINDOW_TABLES, FreshLayer, windows_of
from tasks.chain.extent import Extents, from_rows
from tasks.chain.layer import ExtentKind
from tasks.chain.qcow2_layout import Header
from tasks.units import GIB, KIB, MIB

TABLE_COVERS = 512 * MIB  # with 64 KiB clusters
D, Z, C = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.COMPRESSED


def layer(name: str, extents: list[tuple[int, int, int, int, int]], tables: dict[int, int], size=2 * GIB) -> ChainLayer:
    """`tables`: L1 index -> offset of the L2 table in the object."""
    entries = -(-size // TABLE_COVERS)
    header = Header(3, 0, 0, 16, size, 0, entries, 196608, 65536, 1, 0, 0)
    offsets = np.zeros(entries, np.int64)
    for index, offset in tables.items():
        offsets[index] = offset
    return ChainLayer(name, "r", 100 * MIB, rows(extents), LayerTables(header, 100 * MIB, offsets, ((0, 65536),)))


def rows(extents: list[tuple[int, int, int, int, int]]) -> Extents:
    return from_rows(extents)


def slices(chain: list[ChainLayer], window=None) -> set[tuple[str, int, int]]:
    found = wanted_slices(chain, window)
    return {
        (chain[index].layer_id, number, why)
        for (index, number), why in zip(found.pairs(), found.why.tolist(), strict=True)
    }


def test_data_is_wanted_only_where_it_is_visible():
    base = layer("base", [(0, 8 * MIB, D, 10 * MIB, 8 * MIB)], {0: 4 * MIB})
    top = layer("top", [(0, 4 * MIB, D, 20 * MIB, 4 * MIB)], {0: 6 * MIB})
    assert slices([top, base]) == {
        ("top", 0, OPEN), ("top", 3, TABLE), ("top", 10, DATA), ("top", 11, DATA),
        ("base", 0, OPEN), ("base", 2, TABLE), ("base", 7, DATA), ("base", 8, DATA),
    }  # fmt: skip


def test_a_table_whose_whole_range_is_decided_above_is_not_looked_into():
    base = layer("base", [(0, 8 * MIB, D, 10 * MIB, 8 * MIB)], {0: 4 * MIB}, size=512 * MIB)
    top = layer("top", [(0, 512 * MIB, Z, -1, 0)], {0: 6 * MIB}, size=512 * MIB)
    assert slices([top, base]) == {("top", 0, OPEN), ("top", 3, TABLE), ("base", 0, OPEN)}


def test_a_shorter_layer_hides_what_is_below_its_end():
    base = layer("base", [(0, 2 * GIB, D, 10 * MIB, 60 * MIB)], {0: 4 * MIB, 3: 8 * MIB})
    short = layer("short", [], {}, size=512 * MIB)
    top = layer("top", [], {})
    assert ("base", 4, TABLE) not in slices([top, short, base])
    assert ("base", 4, TABLE) in slices([top, base])


def test_a_compressed_cluster_is_wanted_whole_when_a_part_of_it_shows():
    base = layer("base", [(0, 64 * KIB, C, 2 * MIB - 100, 612)], {0: 4 * MIB})
    top = layer("top", [(0, 32 * KIB, D, 20 * MIB, 32 * KIB)], {0: 6 * MIB})
    assert {("base", 0, OPEN), ("base", 1, DATA)} <= slices([top, base])


def test_useful_bytes_are_counted_per_slice():
    base = layer("base", [(0, MIB, D, 9 * MIB, MIB), (MIB, MIB, D, 11 * MIB, MIB)], {0: 4 * MIB})
    found = wanted_slices([base])
    by_slice = dict(zip(found.number.tolist(), found.useful_bytes.tolist(), strict=True))
    assert by_slice == {0: 65536, 2: 65536, 4: MIB, 5: MIB}


def test_windows_together_want_what_the_whole_disk_wants():
    data = [(n * 512 * MIB, MIB, D, (20 + 9 * n) * MIB, MIB) for n in range(4)]
    base = layer("base", data, {n: (4 + 2 * n) * MIB for n in range(4)})
    top = layer("top", [(600 * MIB, MIB, D, 50 * MIB, MIB)], {1: 6 * MIB})
    parts = [slices([top, base], (start, start + 512 * MIB)) for start in range(0, 2 * GIB, 512 * MIB)]
    assert set.union(*parts) == slices([top, base])


def fresh(tables: dict[int, int], size: int) -> FreshLayer:
    return FreshLayer("x", "r", layer("x", [], tables, size).tables, lambda *_: b"")


def test_the_deepest_windows_come_first_and_cover_the_disk():
    unit = WINDOW_TABLES * TABLE_COVERS
    one = fresh({0: 4 * MIB, WINDOW_TABLES: 6 * MIB}, 3 * unit)
    two = fresh({WINDOW_TABLES: 6 * MIB}, 3 * unit)
    order = windows_of([one, two], 3 * unit)
    assert order == [(unit, 2 * unit), (0, unit), (2 * unit, 3 * unit)]
    assert windows_of([one, two], 3 * unit - 5)[2] == (2 * unit, 3 * unit - 5)
