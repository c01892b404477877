"""Which bytes a merge must have."""

from tasks.chain import extent, needs
from tasks.chain.layer import ExtentKind
from tasks.chain.visible import LayerView

CLUSTER = 64
DATA = ExtentKind.DATA


def _layer(size: int, *rows: tuple[int, int, int]) -> LayerView:
    """Rows: guest start, length, host offset."""
    return LayerView(extent.from_rows([(start, length, DATA, host, length) for start, length, host in rows]), size)


def test_stream_needs_what_survives() -> None:
    top = _layer(256, (0, 64, 1000))
    parent = _layer(256, (0, 128, 2000))
    assert [ranges.pairs() for ranges in needs.stream_needs([top, parent])] == [[], [(2064, 2128)]]


def test_rebase_needs_both_sides_of_the_comparison() -> None:
    top = _layer(256, (0, 64, 1000))
    parent = _layer(256, (0, 128, 2000))
    base = _layer(256, (0, 256, 5000))
    wanted = needs.rebase_needs([top, parent], [base], CLUSTER)
    assert [ranges.pairs() for ranges in wanted] == [[], [(2064, 2128)], [(5064, 5128)]]


def test_rebase_needs_the_whole_last_cluster_of_a_top_that_ends_inside_one() -> None:
    """QEMU fills the cluster that it writes from the old chain, and does not stop at the top's end."""
    top = _layer(160)
    parent = _layer(256, (128, 16, 2000))
    middle = _layer(256, (144, 112, 3000))
    base = _layer(256, (0, 256, 5000))
    wanted = needs.rebase_needs([top, parent, middle], [base], CLUSTER)
    assert [ranges.pairs() for ranges in wanted] == [[], [(2000, 2016)], [(3000, 3048)], [(5128, 5192)]]


def test_moved_is_cut_at_the_end() -> None:
    top = _layer(160)
    parent = _layer(256, (128, 16, 2000))
    assert needs.moved([top, parent], CLUSTER).pairs() == [(128, 160)]
