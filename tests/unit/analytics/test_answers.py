"""Kept answers give what the query itself gives, page by page, and never go stale."""

from pathlib import Path
from typing import Any

import pytest

from tasks.analytics import answers
from tasks.analytics.answers import Limits
from tasks.analytics.fleetgen import FleetShape, generate_fleet
from tasks.analytics.paging import Cut, Page
from tasks.analytics.queries import find

LIMITS = Limits(memory="500MB", threads=1)
DEFAULTS = {"max_chain_length": 8}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet") / "manifest"
    generate_fleet(folder, FleetShape(300, extents_per_layer=5, hostile_names=True))
    return folder


def page(manifest: Path, keep: bool = True, **wanted: Any) -> Page:
    return answers.page(manifest, find("chain_length"), {}, DEFAULTS, LIMITS, Cut(**wanted), keep=keep)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"limit": 7, "offset": 14},
        {"sort": "home_region", "limit": 9, "offset": 9},
        {"sort": "layers", "descending": True},
        {"search": "VM-0", "sort": "disk_id"},
        {"search": "'; --"},
        {"offset": 100_000},
    ],
)
def test_a_kept_page_is_the_computed_page(manifest: Path, wanted: dict[str, Any]) -> None:
    kept, computed = page(manifest, **wanted), page(manifest, keep=False, **wanted)
    assert (kept.total, kept.result.rows) == (computed.total, computed.result.rows)
    assert [c.name for c in kept.result.columns] == [c.name for c in computed.result.columns]


def test_an_answer_is_computed_once_for_the_same_parameters(manifest: Path) -> None:
    query = find("chain_length")
    first = answers.answer(manifest, query, {}, DEFAULTS, LIMITS)
    written = first.stat().st_mtime_ns
    assert answers.answer(manifest, query, {}, DEFAULTS, LIMITS).stat().st_mtime_ns == written
    assert answers.answer(manifest, query, {"max_chain_length": 3}, DEFAULTS, LIMITS) != first
    assert answers.answer(manifest, query, {}, {"max_chain_length": 9}, LIMITS) != first


def test_a_row_is_found_by_its_exact_name_only(manifest: Path) -> None:
    for row in page(manifest, limit=500).result.dicts():
        found = answers.find_row(manifest, find("chain_length"), DEFAULTS, LIMITS, disk_id=row["disk_id"])
        assert found == row
    assert answers.find_row(manifest, find("chain_length"), DEFAULTS, LIMITS, disk_id="vm-") is None
