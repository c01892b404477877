"""What a merge must have of each layer."""

from tasks.chain import extent, needs
from tasks.chain.layer import ExtentKind
from tasks.chain.visible import LayerView

CLUSTER = 64
D, Z, C = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.COMPRESSED


def _view(size: int, *rows: tuple[int, int, ExtentKind, int, int]) -> LayerView:
    return LayerView(extent.from_rows(list(rows)), size)


TOP = _view(640, (64, 64, D, 1000, 64))
MIDDLE = _view(640, (0, 128, D, 2000, 128), (256, 64, Z, -1, 0))
LOW = _view(640, (0, 320, D, 3000, 320), (384, 64, C, 4001, 30))
BASE = _view(640, (0, 640, D, 5000, 640))


def test_stream_needs_the_survivors_only() -> None:
    top, middle, low = needs.stream_needs([TOP, MIDDLE, LOW])
    assert top.pairs() == []
    assert middle.pairs() == [(2000, 2064)]
    assert low.pairs() == [(3128, 3256), (4001, 4031)]


def test_rebase_needs_both_views_of_the_same_clusters() -> None:
    found = needs.rebase_needs([TOP, MIDDLE, LOW], [BASE], CLUSTER)
    assert [ranges.pairs() for ranges in found[:3]] == [[], [(2000, 2064)], [(3128, 3256), (4001, 4031)]]
    assert found[3].pairs() == [(5000, 5064), (5128, 5320), (5384, 5448)]


def test_rebase_needs_the_rest_of_a_large_cluster_of_the_top() -> None:
    small = _view(640, (16, 16, D, 2000, 16))
    found = needs.rebase_needs([_view(640), small], [BASE], CLUSTER)
    assert found[1].pairs() == [(2000, 2016)]
    assert found[2].pairs() == [(5000, 5064)]


def test_a_shorter_base_has_nothing_behind_its_end() -> None:
    found = needs.rebase_needs([_view(640), LOW], [_view(128, (0, 128, D, 5000, 128))], CLUSTER)
    assert found[2].pairs() == [(5000, 5128)]


def test_moved_ranges_are_whole_clusters_that_the_top_does_not_hold() -> None:
    small = _view(640, (16, 16, D, 2000, 16), (70, 10, D, 2100, 10))
    assert needs.moved([TOP, small], CLUSTER).pairs() == [(0, 64)]
    short = _view(100, (0, 64, D, 2000, 64))
    assert needs.moved([TOP, short], CLUSTER).pairs() == [(0, 64), (128, 640)]
