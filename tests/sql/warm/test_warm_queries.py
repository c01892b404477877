"""What is to be warmed, rows in and rows out."""

from pathlib import Path

import pytest

from tests.support.sqlcases import cases, check_case

HERE = Path(__file__).parent


@pytest.mark.parametrize("case", cases(HERE), ids=lambda case: f"{case.parent.name}/{case.name}")
def test_query(case: Path, tmp_path: Path) -> None:
    check_case(case, "warm", tmp_path / "manifest")
