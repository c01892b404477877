"""Hazard 19: a merge in place that dies half-way has changed its input. Chainwright never writes to one."""

import hashlib
import os
from pathlib import Path

import pytest

from tasks.execute.checkpoint import ENV_CRASH_AT
from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tasks.store import keys
from tests.support.chains import LayerSpec, build, tool
from tests.support.hazard import ENGINES, MIB, copy_of
from tests.support.merges import Stores, merge_action, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


def test_commit_writes_into_its_input_and_chainwright_does_not(fleet: Fleet, stores: Stores, tmp_path: Path) -> None:
    chain = build(tmp_path / "c", [LayerSpec(8 * MIB, writes=(("write", n * MIB, MIB, n + 1),)) for n in range(3)])
    spoilt = copy_of(chain, tmp_path / "spoilt")
    tool(["qemu-img", "commit", "-q", "-f", "qcow2", f"{chain.tip}.qcow2"], spoilt.folder)
    assert spoilt.path(chain.layers[1]).read_bytes() != chain.path(chain.layers[1]).read_bytes()

    for engine in ENGINES:
        refs = publish_chain(fleet, stores, chain, engine)
        child = os.fork()
        if child == 0:
            os.environ[ENV_CRASH_AT] = "merged"
            apply_merge(fleet, merge_action(refs, engine, engine, 0, 1), "dies")
            os._exit(0)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        for ref in refs:
            body, info = stores[ref.region].get(keys.layer(ref.layer_id))
            assert info.etag == ref.etag
            assert hashlib.sha256(body).digest() == hashlib.sha256(chain.path(ref.layer_id).read_bytes()).digest()
