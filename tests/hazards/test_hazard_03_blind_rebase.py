"""Hazard 3: `rebase -u` accepts a missing file and a cycle; a wrong base is silent data loss."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tests.support.chains import Chain, LayerSpec, build, random_specs, tool
from tests.support.hazard import ENGINES, MIB, copy_of, tip_sha256
from tests.support.merges import Stores, layer_keys, merge_action, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return build(tmp_path / "chain", random_specs(random.Random(3), 4, LayerSpec(8 * MIB), writes=8))


def test_rebase_u_accepts_anything(chain: Chain, tmp_path: Path) -> None:
    spoilt = copy_of(chain, tmp_path / "spoilt")
    blind = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b"]
    tool([*blind, f"{chain.layers[0]}.qcow2", f"{chain.tip}.qcow2"], spoilt.folder)
    assert tip_sha256(spoilt) != tip_sha256(chain)
    tool([*blind, "nowhere.qcow2", f"{chain.tip}.qcow2"], spoilt.folder)
    tool([*blind, f"{chain.tip}.qcow2", f"{chain.layers[0]}.qcow2"], spoilt.folder)


def test_chainwright_merges_only_along_the_headers(chain: Chain, fleet: Fleet, stores: Stores) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")
    for engine in ENGINES:
        skipping = merge_action([refs[0], refs[2], refs[3]], "d1", engine, 0, 1)
        receipt = apply_merge(fleet, skipping, "test")
        assert (receipt.outcome, receipt.reason.partition(":")[0]) == ("refused", "lineage")
        wrong_base = merge_action([refs[0], refs[1], refs[3]], "d1", engine, 0, 1)
        assert apply_merge(fleet, wrong_base, "test").reason.startswith("lineage")
    missing = replace(refs[1], layer_id="0" * 32)
    receipt = apply_merge(fleet, merge_action([refs[0], missing, *refs[2:]], "d1", "rebase", 0, 1), "test")
    assert receipt.reason.startswith("stale_layer")
    assert layer_keys(stores) == set(chain.layers)
