"""Hazard 17: the worker dies after the swing and before it is recorded. The intent was written first: a retry knows."""

import os
from pathlib import Path

import pytest

from tasks.execute.checkpoint import ENV_CRASH_AT
from tasks.execute.journal import Journal
from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tasks.store.heads import HeadStore
from tests.support.chains import LayerSpec, build
from tests.support.hazard import MIB
from tests.support.merges import Stores, layer_keys, merge_action, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


def test_the_retry_finishes_the_record_and_does_nothing_else(fleet: Fleet, stores: Stores, tmp_path: Path) -> None:
    chain = build(tmp_path / "c", [LayerSpec(8 * MIB, writes=(("write", n * MIB, MIB, n + 1),)) for n in range(3)])
    action = merge_action(publish_chain(fleet, stores, chain, "d1"), "d1", "stream", 0, 1)
    child = os.fork()
    if child == 0:
        os.environ[ENV_CRASH_AT] = "published"
        apply_merge(fleet, action, "dies")
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    journal = Journal(stores["us-east"], action, "")
    unfinished = journal.read()
    assert unfinished is not None
    assert unfinished.state == "intent"
    version = HeadStore(stores["us-east"]).read("d1")
    before = layer_keys(stores)
    receipt = apply_merge(fleet, action, "retry")
    assert (receipt.state, receipt.outcome, receipt.new_tip) == ("done", "published", version.head.tip)
    assert receipt.proof is not None
    assert receipt == journal.read()
    assert HeadStore(stores["us-east"]).read("d1") == version
    assert layer_keys(stores) == before
