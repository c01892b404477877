"""Remove what attempts left in the stores. See `tasks.execute.runner` for when that is safe."""

import logging
from collections.abc import Iterable
from contextlib import suppress

from tasks.chain.head import Head
from tasks.errors import ChainwrightError
from tasks.execute.job import Job
from tasks.execute.receipt import Receipt

log = logging.getLogger(__name__)


def clean(job: Job, receipt: Receipt | None, before: Head, now: Head) -> None:
    """Remove what earlier attempts of the action left, after this one took the lease.

    `before`: the head as it was just before, `now`: as this attempt wrote it. An attempt that noted its proof is spared
    unless its lease was still there when it was taken over: it might have published once and been undone.
    """
    uninterrupted = now.generation == before.generation + 1
    fenced = before.lease.attempt_id if before.lease and uninterrupted else None
    for attempt in receipt.attempts if receipt else ():
        if attempt.attempt_id == job.attempt_id:
            continue
        ready = attempt.attempt_id in (receipt.extra.get("ready", {}) if receipt else {})
        if ready and attempt.attempt_id != fenced:
            log.warning("disk %s: objects of attempt %s are left to retirement", now.disk_id, attempt.attempt_id)
            continue
        _remove(job, attempt.creates)


def discard(job: Job) -> None:
    """Remove what this attempt created, once it is certain that it cannot be published (`HeadStore.withdraw`)."""
    _remove(job, job.creates())


def _remove(job: Job, creates: Iterable[tuple[str, str]]) -> None:
    """Unfinished uploads, then objects. What cannot be removed stays named in the journal."""
    for region, key in creates:
        store = job.stores.get(region)
        if store is None:
            continue
        with suppress(ChainwrightError):
            for pending in store.list_multipart(key):
                if pending.key == key:
                    store.abort_multipart(key, pending.upload_id)
            store.delete(key)
