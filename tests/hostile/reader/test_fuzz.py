"""Mutated images against the reader: no exception, bounded memory and time, nothing accepted that QEMU chokes on."""

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from tasks.chain.qcow2_reader import MEMORY_BOUND_BYTES
from tests.support import judge
from tests.support.limits import memory_limit
from tests.support.mutants import Seed, built_seeds, mutate, real_seeds

pytestmark = pytest.mark.qemu

IMAGES = int(os.environ.get("CHAINWRIGHT_FUZZ_IMAGES", "200000"))
START = int(os.environ.get("CHAINWRIGHT_FUZZ_SEED", "1"))
BATCHES = 20
CHECKED_PER_BATCH = 150  # accepted mutants that QEMU is asked about; 20 ms each


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Seed]:
    return built_seeds() + real_seeds(tmp_path_factory.mktemp("seeds"), 60, START)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_mutants(seeds: list[Seed], batch: int, tmp_path: Path) -> None:
    run(seeds, START * 1000 + batch, IMAGES // BATCHES, CHECKED_PER_BATCH, tmp_path)


def test_a_few_mutants(tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    run(built_seeds() + real_seeds(tmp_path / "seeds", 12, START), 7, 3000, 30, tmp_path)


def run(seeds: list[Seed], start: int, count: int, checked: int, folder: Path) -> None:
    """The mutants of one start value. The whole batch has the memory that is stated for one image."""
    rng = random.Random(start)
    reasons: Counter[str] = Counter()
    every = max(1, count // 4 // checked)  # about a quarter is accepted
    with memory_limit(MEMORY_BOUND_BYTES):
        accepted = []
        for number in range(count):
            image = mutate(rng, rng.choice(seeds))
            reading = judge.read(image)  # an exception fails the test
            judge.check_cost(reading)
            reasons[reading.facts.reason or "ok"] += 1
            if reading.facts.status == "ok":
                judge.check_sound(reading, len(image))
                if reasons["ok"] % every == 0 and len(accepted) < checked:
                    accepted.append((number, image, reading))
    for number, image, reading in accepted:
        try:
            judge.check_with_qemu(image, reading, folder / "mutant.qcow2")
        except AssertionError as error:
            kept = folder / f"{start}-{number}.qcow2"
            kept.write_bytes(image)
            raise AssertionError(f"mutant {number} of start {start}, kept as {kept}: {error}") from error
    assert reasons["ok"] > count // 50, reasons
    assert len(reasons) > 20, reasons
    assert len(accepted) >= min(checked, reasons["ok"] // every)
