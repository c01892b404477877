"""At least 1,000 random chains through inventory, planner and engines: content unchanged, or a named refusal."""

import os
from collections import Counter
from pathlib import Path

import pytest

from tasks.settings import Fleet
from tests.support.differential import run_batch
from tests.support.merges import Stores

pytestmark = [pytest.mark.qemu, pytest.mark.s3, pytest.mark.slow]

TREES_PER_BATCH = 25
BATCHES = int(os.environ.get("CHAINWRIGHT_DIFFERENTIAL_BATCHES", "40"))
SEEN: Counter[str] = Counter()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1000, 1000 + BATCHES))
def test_random_forests(fleet: Fleet, stores: Stores, tmp_path: Path, seed: int) -> None:
    seen = run_batch(fleet, stores, tmp_path / "forest", seed, TREES_PER_BATCH)
    SEEN.update(seen.engines)
    assert sum(seen.engines.values()) > TREES_PER_BATCH // 2, (seen.skips, seen.refusals)


def test_every_engine_was_chosen() -> None:
    if BATCHES < 10:
        pytest.skip("too few batches to expect all engines")
    assert {"rebase", "stream", "compose"} <= set(SEEN)
