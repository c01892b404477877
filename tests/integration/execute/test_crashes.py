"""kill -9 at every named point, then a retry: old head or new head, both readable, nothing left that has no name."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tasks.execute.checkpoint import ENV_CRASH_AT, POINTS
from tasks.execute.journal import Journal
from tasks.plan.steps import Engine, LayerRef, MergeAction
from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tasks.store.heads import HeadStore
from tests.support.chains import Chain, LayerSpec, build, guest_sha256
from tests.support.merges import Stores, disk_sha256, layer_keys, merge_action, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]
MIB = 1 << 20
AFTER_PUBLISH = ("published", "receipted")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Base, two small layers, a top large enough for a multipart upload, and one more layer above."""
    size = 24 * MIB
    writes = [
        (("write", 0, 2 * MIB, 1),),
        (("write", MIB, MIB, 2), ("zero", MIB // 2, MIB // 4, 0)),
        (("write", MIB + 65536, MIB, 3),),
        (("write", 4 * MIB, 13 * MIB, 4),),
        (("write", 18 * MIB, MIB // 2, 5),),
    ]
    specs = [LayerSpec(size, writes=layer) for layer in writes]  # type: ignore[arg-type]
    return build(tmp_path_factory.mktemp("crash"), specs)


@pytest.mark.parametrize("point", POINTS)
def test_rebase_killed_and_retried(fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path, point: str) -> None:
    _kill_and_retry(fleet, stores, chain, tmp_path, "rebase", point)


@pytest.mark.parametrize("engine", ["stream", "compose"])
@pytest.mark.parametrize("point", ["fetched", "uploading", "verified", "published"])
def test_other_engines_killed_and_retried(
    fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path, engine: Engine, point: str
) -> None:
    _kill_and_retry(fleet, stores, chain, tmp_path, engine, point)


def test_crashing_again_and_again_leaves_nothing_without_a_name(
    fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path
) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")
    action = merge_action(refs, "d1", "rebase", 1, 3)
    for point in ("uploaded", "verified", "uploading", "verified"):
        _killed_at(fleet, action, point)
        assert layer_keys(stores) - set(chain.layers) <= _named(stores, action)
    receipt = apply_merge(fleet, action, "last")
    assert receipt.outcome == "published"
    assert layer_keys(stores) == set(chain.layers) | set(receipt.new_layers)


def _kill_and_retry(fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path, engine: Engine, point: str) -> None:
    refs = publish_chain(fleet, stores, chain, "d1")
    before = guest_sha256(chain.path(chain.tip))
    action = merge_action(refs, "d1", engine, 1, 3)
    _killed_at(fleet, action, point)
    head = HeadStore(stores["us-east"]).read("d1").head
    assert (head.tip == chain.tip) == (point not in AFTER_PUBLISH)
    assert disk_sha256(fleet, stores, "d1", tmp_path / "crashed") == before
    assert layer_keys(stores) - set(chain.layers) <= _named(stores, action)
    assert not _tools_left(fleet)

    receipt = apply_merge(fleet, action, "retry")
    assert receipt.outcome == "published", receipt.reason
    assert receipt.proof is not None
    assert receipt.layers_after == 3
    _assert_clean(fleet, stores, chain, refs, receipt.new_layers)
    assert disk_sha256(fleet, stores, "d1", tmp_path / "retried") == before
    again = apply_merge(fleet, action, "again")
    assert (again.outcome, again.new_tip) == ("published", receipt.new_tip)


def _assert_clean(
    fleet: Fleet, stores: Stores, chain: Chain, refs: list[LayerRef], new_layers: tuple[str, ...]
) -> None:
    head = HeadStore(stores["us-east"]).read("d1").head
    assert (head.tip, head.lease) == (new_layers[-1], None)
    assert layer_keys(stores) == set(chain.layers) | set(new_layers)
    assert all(stores[ref.region].info(f"layers/{ref.layer_id}.qcow2").etag == ref.etag for ref in refs)
    assert not [upload for store in stores.values() for upload in store.list_multipart("layers/")]


def _killed_at(fleet: Fleet, action: MergeAction, point: str) -> None:
    """A child process runs the action and kills itself at the point."""
    child = os.fork()
    if child == 0:
        os.environ[ENV_CRASH_AT] = point
        try:
            apply_merge(fleet, action, "crash")
        finally:
            os._exit(7)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"point {point} was not reached: exit code {os.waitstatus_to_exitcode(status)}"
    assert os.WTERMSIG(status) == signal.SIGKILL


def _named(stores: Stores, action: MergeAction) -> set[str]:
    """Layer ids that the action's journal names."""
    receipt = Journal(stores["us-east"], action, "").read()
    assert receipt is not None
    keys = (key for attempt in receipt.attempts for _, key in attempt.creates)
    return {key.removeprefix("layers/").removesuffix(".qcow2") for key in keys}


def _tools_left(fleet: Fleet) -> list[list[str]]:
    deadline = time.monotonic() + 60
    while True:
        found = [
            process.info["cmdline"]
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and any(str(fleet.work_dir) in word for word in process.info["cmdline"] or [])
        ]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
