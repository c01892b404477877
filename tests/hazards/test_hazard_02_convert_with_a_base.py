"""Hazard 2: `qemu-img convert -B X` copies only the top layer where X is not its own parent."""

import ast
import random
from pathlib import Path

import pytest

from tasks.settings import Fleet
from tests.support.chains import Chain, LayerSpec, build, random_specs, tool
from tests.support.hazard import ENGINES, MIB, OnAFleet, copy_of, tip_sha256
from tests.support.merges import Stores

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return build(tmp_path / "chain", random_specs(random.Random(2), 4, LayerSpec(8 * MIB), writes=8))


def test_convert_drops_the_middle(chain: Chain, tmp_path: Path) -> None:
    spoilt = copy_of(chain, tmp_path / "spoilt")
    base = f"{chain.layers[0]}.qcow2"
    argv = ["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", "-B", base, "-F", "qcow2"]
    tool([*argv, f"{chain.tip}.qcow2", "out.qcow2"], spoilt.folder)
    (spoilt.folder / "out.qcow2").replace(spoilt.path(spoilt.tip))
    assert tip_sha256(spoilt) != tip_sha256(chain)


def test_chainwright_keeps_the_middle(chain: Chain, fleet: Fleet, stores: Stores, tmp_path: Path) -> None:
    OnAFleet(fleet, stores, chain, tmp_path).published(*ENGINES, bottom=2)


def test_no_call_of_qemu_img_uses_it() -> None:
    tree = ast.parse(Path("tasks/qemu/img.py").read_text())
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert "convert" in words
    assert "-B" not in words
