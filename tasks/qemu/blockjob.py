"""Drive one block job to its end. Only moves messages: what the end means is the caller's business.

A job is done when QEMU says BLOCK_JOB_COMPLETED without an `error`. Everything else (an error, a cancellation, a
connection that breaks, a daemon that dies) is a failure, and the caller must not touch a header on the strength of it:
that mistake corrupted an image in the notes.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from qemu.qmp import EventListener, QMPClient

from tasks.errors import Permanent, Transient
from tasks.qemu.qmp import execute

_EVENTS = ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED")
_POLL_SECONDS = 1.0
JobProgress = Callable[[int, int], None]  # bytes done, bytes in all, as QEMU counts them


async def run_job(
    client: QMPClient,
    command: str,
    job_id: str,
    *,
    timeout_seconds: float,
    on_progress: JobProgress | None = None,
    **arguments: Any,
) -> None:
    """Start the job and wait for its end. Permanent with QEMU's message if it failed; Transient if QEMU went away."""
    with client.listener(_EVENTS) as events:
        await execute(client, command, **{"job-id": job_id, **arguments})
        ending = asyncio.ensure_future(_ending(events, job_id))
        gone = asyncio.ensure_future(client.runstate_changed())
        telling = asyncio.ensure_future(_tell(client, job_id, on_progress))
        try:
            done, _ = await asyncio.wait({ending, gone}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, telling):
                task.cancel()
        if ending not in done:
            ending.cancel()
            why = "QEMU went away" if done else f"no end after {timeout_seconds:g} s"
            raise Transient(f"job {command}: {why}")
        _check(command, ending.result())


def _check(command: str, event: dict[str, Any]) -> None:
    data = event["data"]
    if event["event"] != "BLOCK_JOB_COMPLETED":
        raise Permanent(f"job {command}: cancelled at {data.get('offset')} of {data.get('len')}")
    if "error" in data:
        raise Permanent(f"job {command}: {data['error']} at {data.get('offset')} of {data.get('len')}")


async def _ending(events: EventListener, job_id: str) -> dict[str, Any]:
    async for event in events:
        found: dict[str, Any] = dict(event)
        if found["data"].get("device") == job_id:
            return found
    raise AssertionError


async def _tell(client: QMPClient, job_id: str, on_progress: JobProgress | None) -> None:
    """Report until cancelled; a failed question is the waiting side's to notice."""
    if on_progress is None:
        return
    with contextlib.suppress(Permanent, Transient):
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            for job in await execute(client, "query-block-jobs"):
                if job["device"] == job_id:
                    on_progress(job["offset"], job["len"])
