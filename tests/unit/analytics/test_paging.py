"""Pages of an answer: every row once, sorted by its columns only, searched in its texts."""

from pathlib import Path

import pytest
import yaml

from tasks.analytics import answers
from tasks.analytics.answers import Limits
from tasks.analytics.paging import Cut, Page
from tasks.analytics.queries import find
from tasks.errors import ConfigError
from tests.support import yaml_fleet

LIMITS = Limits(memory="500MB", threads=1)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    yaml_fleet.write(yaml.safe_load((yaml_fleet.FLEETS / "small.yaml").read_text(encoding="utf-8")), tmp_path)
    return tmp_path


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """Twenty-five disks on one layer each."""
    layers = [{"layer_id": f"layer-{n:02}"} for n in range(25)]
    heads = [{"disk_id": f"disk-{n:02}", "tip_layer_id": f"layer-{n:02}"} for n in range(25)]
    yaml_fleet.write({"layers": layers, "heads": heads}, tmp_path)
    return tmp_path


@pytest.fixture(params=[True, False], ids=["kept", "computed"])
def keep(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def page(manifest: Path, keep: bool, cut: Cut, query: str = "chain_length") -> Page:
    return answers.page(manifest, find(query), {}, {}, LIMITS, cut, keep=keep)


def test_pages_cover_all_rows_once(named: Path, keep: bool) -> None:
    seen = []
    for offset in range(0, 30, 10):
        got = page(named, keep, Cut("layers", descending=True, limit=10, offset=offset))
        assert got.total == 25
        seen += [row["disk_id"] for row in got.result.dicts()]
    assert seen == [f"disk-{n:02}" for n in range(25)]  # ties fall back on the key


def test_a_page_keeps_the_querys_own_order(small: Path, keep: bool) -> None:
    rows = page(small, keep, Cut(limit=10)).result.dicts()
    assert [row["layers"] for row in rows] == [4, 3]


def test_search_is_text_in_any_text_column(named: Path, keep: bool) -> None:
    got = page(named, keep, Cut(search="DISK-1"))
    assert (got.total, len(got.result.rows)) == (10, 10)
    assert page(named, keep, Cut(search="100%_'")).total == 0
    assert page(named, keep, Cut(search="layer-07")).total == 1


def test_a_search_where_there_is_no_text_finds_nothing(named: Path, keep: bool) -> None:
    assert page(named, keep, Cut(search="1"), "chain_length_histogram").total == 0
    assert page(named, keep, Cut(), "chain_length_histogram").total == 1


def test_a_page_behind_the_end_is_empty_and_knows_the_total(named: Path, keep: bool) -> None:
    got = page(named, keep, Cut(offset=100))
    assert (got.result.rows, got.total) == ((), 25)


@pytest.mark.parametrize("sort", ["nope", 'layers"; DROP TABLE x; --', ""])
def test_sort_must_be_a_column(named: Path, keep: bool, sort: str) -> None:
    with pytest.raises(ConfigError, match="has no column"):
        page(named, keep, Cut(sort))


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (10_001, 0), (1, -1)])
def test_limits_of_a_page(named: Path, keep: bool, limit: int, offset: int) -> None:
    with pytest.raises(ConfigError, match="page"):
        page(named, keep, Cut(limit=limit, offset=offset))
