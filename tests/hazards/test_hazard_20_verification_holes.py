"""Hazard 20: `compare` calls different sizes identical, `check` does not look at the chain."""

import subprocess
from pathlib import Path

import pytest

from tasks.inventory.local import inspect_file
from tasks.qemu import img
from tasks.qemu.accepted import accept
from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tests.support.chains import LayerSpec, build, check
from tests.support.hazard import MIB
from tests.support.merges import Stores, merge_action, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


def test_sizes_are_part_of_the_comparison(tmp_path: Path) -> None:
    small, large = (build(tmp_path, [LayerSpec(size * MIB)]) for size in (2, 4))
    paths = [small.path(small.tip), large.path(large.tip)]
    plain = ["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", *(path.name for path in paths)]
    assert subprocess.run(plain, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    left, right = (accept(path, inspect_file(path).facts) for path in paths)
    assert not img.compare(left, right)
    assert img.compare(left, left)


def test_equal_content_that_is_stored_otherwise_is_equal(tmp_path: Path) -> None:
    """Strict mode would say no: it compares the allocation too."""
    base = LayerSpec(2 * MIB, writes=(("write", 0, MIB, 7),))
    plain = build(tmp_path, [base, LayerSpec(2 * MIB)])
    again = build(tmp_path, [base, LayerSpec(2 * MIB, writes=(("write", 0, MIB, 7), ("zero", MIB, MIB, 0)))])
    paths = [chain.path(chain.tip) for chain in (plain, again)]
    left, right = (accept(path, inspect_file(path).facts) for path in paths)
    strict = ["qemu-img", "compare", "-s", "-f", "qcow2", "-F", "qcow2", *(path.name for path in paths)]
    assert subprocess.run(strict, cwd=tmp_path, capture_output=True, check=False).returncode == 1
    assert img.compare(left, right)


def test_damage_below_is_found_before_anything_is_merged(fleet: Fleet, stores: Stores, tmp_path: Path) -> None:
    chain = build(tmp_path / "c", [LayerSpec(8 * MIB, writes=(("write", n * MIB, MIB, n + 1),)) for n in range(3)])
    path = chain.path(chain.layers[1])
    with path.open("r+b") as file:  # an L2 entry far behind the file's end
        facts = inspect_file(path).facts
        file.seek(facts.l1_offset)
        table = int.from_bytes(file.read(8), "big") & 0x00FFFFFFFFFFFE00
        file.seek(table)
        file.write((1 << 63 | 1 << 40).to_bytes(8, "big"))
    assert check(chain.path(chain.tip))["check-errors"] == 0
    refs = publish_chain(fleet, stores, chain, "d1")
    for engine in ("rebase", "stream", "compose"):
        receipt = apply_merge(fleet, merge_action(refs, "d1", engine, 0, 1), "t")
        assert (receipt.outcome, receipt.reason.partition(":")[0]) == ("refused", "cluster_outside")
