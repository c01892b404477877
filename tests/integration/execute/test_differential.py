"""A fixed sample of the differential test (the whole of it: tests/hostile/merge)."""

from pathlib import Path

import pytest

from tasks.settings import Fleet
from tests.support.differential import run_batch
from tests.support.merges import Stores

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


def test_sample_of_random_forests(fleet: Fleet, stores: Stores, tmp_path: Path) -> None:
    seen = run_batch(fleet, stores, tmp_path / "forest", seed=1, count=10)
    assert sum(seen.engines.values()) >= 5
    assert seen.layers_removed >= 10
