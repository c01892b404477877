"""Parts cover the object, keep S3's rules, and send no more than needed."""

import random

import numpy as np
import pytest

from tasks.chain.extent import Ranges, ranges_of, subtract
from tasks.chain.parts import MAX_PART_BYTES, MIN_PART_BYTES, PartPlan, copied_bytes, plan_parts, sent_bytes
from tasks.units import MIB


@pytest.mark.parametrize("seed", range(200))
def test_random_changes(seed: int) -> None:
    rng = random.Random(seed)
    old_size = rng.choice([0, 3, 20, 300]) * MIB + rng.randrange(100_000)
    size = old_size + rng.choice([0, 1, 80 * MIB, 17 * MIB])
    spots = [rng.randrange(max(1, old_size)) for _ in range(rng.randrange(12))]
    changed = _ranges(*[(spot, spot + rng.randrange(1, 200_000)) for spot in spots])
    parts = plan_parts(size, changed, old_size)
    at = 0
    for part in parts:
        assert part.start == at
        at += part.length
    assert at == size
    assert all(part.length >= MIN_PART_BYTES for part in parts[:-1])
    assert all(part.length <= MAX_PART_BYTES for part in parts)
    copied = _ranges(*[(part.start, part.start + part.length) for part in parts if part.copy])
    assert subtract(copied, _ranges((0, old_size))).total_bytes == 0
    assert subtract(copied, changed).total_bytes == copied.total_bytes
    if old_size < MIN_PART_BYTES:
        assert not copied.total_bytes


def test_header_change_sends_one_smallest_part() -> None:
    parts = plan_parts(2048 * MIB, _ranges((0, 65536)), 2048 * MIB)
    assert sent_bytes(parts) == MIN_PART_BYTES
    assert copied_bytes(parts) == 2048 * MIB - MIN_PART_BYTES


def test_a_gap_too_small_to_copy_is_sent() -> None:
    parts = plan_parts(40 * MIB, _ranges((0, 1), (9 * MIB, 9 * MIB + 1)), 40 * MIB)
    assert parts == [PartPlan(False, 0, 9 * MIB + 1), PartPlan(True, 9 * MIB + 1, 31 * MIB - 1)]


def test_small_object_is_one_sent_part() -> None:
    assert plan_parts(MIB, _ranges((0, 512)), MIB) == [PartPlan(False, 0, MIB)]


def _ranges(*pairs: tuple[int, int]) -> Ranges:
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return ranges_of(table[:, 0], table[:, 1])
