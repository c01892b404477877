"""Apply: carry out one action of a plan. Used by the DAGs and by `chainwright maintain`."""

import logging
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, NoReturn

from tasks.execute.checkpoint import Checkpoint, crash_point
from tasks.execute.job import Job
from tasks.execute.meter import Meter, MeteredStore, Progress, ProgressCallback
from tasks.execute.receipt import Receipt
from tasks.execute.runner import run_action
from tasks.plan.steps import MergeAction
from tasks.settings import Fleet
from tasks.stages.plan import recheck_action
from tasks.store.base import ObjectStore
from tasks.store.connect import open_stores
from tasks.store.heads import HeadStore
from tasks.store.plans import load_action, load_maps
from tasks.units import human_bytes, human_seconds

log = logging.getLogger(__name__)
_POLICY_REASONS = {"protected_disk", "outside_window"}


def apply_action(
    fleet: Fleet, plan_id: str, action_id: str, attempt: str, progress: ProgressCallback | None = None
) -> dict[str, Any]:
    """Carry out one action of a stored plan; what a DAG keeps of its receipt.

    `attempt` names the caller (an Airflow task instance); the real attempt id is made unique, since Airflow may run the
    same try twice at once. An action may wait for hours, for a person or a free slot: what policy forbids by now is
    `refused`. NotFound: no such plan, action or disk. Transient: worth another try. Everything that ends without an
    error has one of the outcomes of `tasks.execute.runner.run_action`.
    """
    stores = open_stores(fleet)
    action = load_action(stores[fleet.control_region], plan_id, action_id)
    skip = recheck_action(stores[fleet.control_region], action, fleet.policy)
    if skip is not None and skip.reason in _POLICY_REASONS:
        return summary(Receipt(action, "done", (), outcome="refused", reason=f"{skip.reason}: {skip.detail}"))
    with interrupted_by_sigterm():
        return summary(apply_merge(fleet, action, attempt, progress or log_progress, stores=stores))


def apply_merge(
    fleet: Fleet,
    action: MergeAction,
    attempt: str,
    progress: ProgressCallback | None = None,
    *,
    stores: dict[str, ObjectStore] | None = None,
    checkpoint: Checkpoint = crash_point,
) -> Receipt:
    """The same for an action in hand; the whole receipt."""
    stores = stores or open_stores(fleet)
    meter = Meter(_predicted(action), progress)
    regions = {store.bucket: name for name, store in stores.items()}
    metered: dict[str, ObjectStore] = {name: MeteredStore(s, meter, regions) for name, s in stores.items()}
    attempt_id = f"{attempt}-{secrets.token_hex(6)}"
    control = stores[fleet.control_region]
    job = Job(fleet, action, attempt_id, metered, meter, checkpoint, load_maps(control, action))
    return run_action(job, HeadStore(control))


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that a cancelled action leaves nothing behind.

    Airflow sends it when a task is marked failed or cleared, and kills some seconds later. Only in the main thread:
    elsewhere Python has no say in signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def summary(receipt: Receipt) -> dict[str, Any]:
    """Small JSON of a receipt."""
    actual = asdict(receipt.actual) if receipt.actual else {}
    return {
        "outcome": receipt.outcome,
        "reason": receipt.reason,
        "disk_id": receipt.action.disk_id,
        "action_id": receipt.action.action_id,
        "engine": receipt.action.engine,
        "new_tip": receipt.new_tip,
        "layers_before": receipt.layers_before,
        "layers_after": receipt.layers_after,
        "read_bytes": sum(actual.get("read_bytes", {}).values()),
        "write_bytes": sum(actual.get("write_bytes", {}).values()),
        "copy_bytes": sum(actual.get("copy_bytes", {}).values()),
        "seconds": actual.get("seconds", 0.0),
    }


def log_progress(progress: Progress) -> None:
    """One line for the task's log."""
    log.info("%s", progress_line(progress))


def progress_line(progress: Progress) -> str:
    """`merge: 12.0 MiB of 96.1 MiB, 3.1 s to go`."""
    done, predicted = human_bytes(progress.done_bytes), human_bytes(progress.predicted_bytes)
    eta = progress.eta_seconds
    return f"{progress.step}: {done} of {predicted}" + (f", {human_seconds(eta)} to go" if eta is not None else "")


def _predicted(action: MergeAction) -> int:
    return sum(action.cost.read_bytes.values()) + sum(action.cost.write_bytes.values())
