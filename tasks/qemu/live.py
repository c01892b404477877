"""A running VM over QMP: what it writes to, a snapshot, a block-stream that survives a lost connection.

The VM is always asked first (its jobs and its block graph), since an earlier attempt, or a host that died, may have
done a step whose answer nobody saw. Jobs are started with `auto-dismiss: false`: a job that ended while nobody listened
stays `concluded`, with its error, until it is dismissed.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from qemu.qmp import QMPClient

from tasks import clock
from tasks.chain.lineage import backing_target, local_path
from tasks.errors import ChainwrightError, Permanent, Refused
from tasks.qemu.blockjob import JobProgress
from tasks.qemu.qmp import execute, parse_address, session
from tasks.retry import until_reconnected

_POLL_SECONDS = 1.0  # between two looks at a job that sends no event
_TURN_SECONDS = 3.0  # then other clients of the monitor get theirs
_YIELD_SECONDS = 0.2
_ENDED = {"concluded", "null"}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class VmDisk:
    """The guest's disk. `chain` are file names from the active layer down (`<layer_id>.qcow2` for exports)."""

    node: str
    path: str
    chain: tuple[str, ...]
    sizes: tuple[int, ...]  # virtual sizes of the chain's images, in bytes, as QEMU has them now
    nodes: dict[str, str]  # file name -> name of the qcow2 node that has it open
    read_only: frozenset[str]  # file names whose qcow2 node is read-only


def look(address: str, wanted: frozenset[str]) -> VmDisk:
    """The writable disk whose chain holds one of the `wanted` file names.

    Refused (`disk_not_in_vm`) if there is none or more than one. Transient if the VM does not answer.
    """
    return _run(address, lambda client: _look(client, wanted))


def snapshot(address: str, node: str, overlay: str, overlay_node: str) -> None:
    """From now on the guest writes to `overlay`, an existing empty image whose header is left as it is."""

    async def take(client: QMPClient) -> None:
        await execute(
            client,
            "blockdev-snapshot-sync",
            **{
                "node-name": node,
                "snapshot-file": overlay,
                "snapshot-node-name": overlay_node,
                "format": "qcow2",
                "mode": "existing",
            },
        )

    _run(address, take)


def has_job(address: str, job_id: str) -> bool:
    """Does the VM know such a job, running or ended?"""
    return _run(address, lambda client: _job(client, job_id)) is not None


def stream(
    address: str,
    job_id: str,
    disk: VmDisk,
    arguments: dict[str, Any],
    on_progress: JobProgress | None = None,
) -> None:
    """Run (or join) the block-stream job to its end. `arguments` are those of `block-stream` without device and job id.

    Refused (`vm_changed`) if the disk is not as it was seen when the job is started: after a snapshot the job would
    write into a file that is being uploaded.
    The monitor takes one client at a time, so it is given back every few seconds: that is when `control` gets its turn.
    Permanent with QEMU's words if the job failed or was cancelled. A lost connection is made again for as long as
    `tasks.retry.until_reconnected` allows, then Transient: the job may still run, calling again joins it. An interrupt
    cancels the job.
    """
    started = False

    async def turn(client: QMPClient) -> bool:
        nonlocal started
        if not started and await _job(client, job_id) is None:
            now = await _look(client, frozenset({disk.chain[0]}))
            if (now.node, now.chain) != (disk.node, disk.chain):
                raise Refused("vm_changed", f"the VM writes to {now.path} over {now.chain[1]} meanwhile")
            fixed = {"device": disk.node, "job-id": job_id, "auto-dismiss": False}
            await execute(client, "block-stream", **arguments, **fixed)
        started = True
        return await _follow(client, job_id, on_progress)

    try:
        while not until_reconnected()(_run, address, turn):
            clock.sleep(_YIELD_SECONDS)
    except (KeyboardInterrupt, SystemExit):
        with suppress(ChainwrightError):
            control(address, job_id, "job-cancel")
        raise


def control(address: str, job_id: str, command: str) -> None:
    """`job-pause`, `job-resume` or `job-cancel`. Permanent if there is no such job."""
    until_reconnected()(_run, address, lambda client: execute(client, command, id=job_id))


def _run(address: str, work: Callable[[QMPClient], Coroutine[Any, Any, T]]) -> T:
    async def connected() -> T:
        async with session(parse_address(address)) as client:
            return await work(client)

    return asyncio.run(connected())


async def _look(client: QMPClient, wanted: frozenset[str]) -> VmDisk:
    nodes: dict[str, str] = {}
    read_only: set[str] = set()
    for node in await execute(client, "query-named-block-nodes", flat=True):
        name = backing_target(node["file"]) if node["drv"] == "qcow2" else None
        if name is not None:
            nodes[name] = node["node-name"]
            read_only |= {name} if node["ro"] else set()
    found = []
    for device in await execute(client, "query-block"):
        inserted = device.get("inserted") or {}
        if inserted.get("drv") != "qcow2" or inserted["ro"]:
            continue
        images = list(_images(inserted["image"]))
        chain = tuple(backing_target(image["filename"]) or image["filename"] for image in images)
        sizes = tuple(int(image["virtual-size"]) for image in images)
        path = local_path(inserted["file"])
        if wanted & set(chain) and path is not None:
            found.append(VmDisk(inserted["node-name"], path, chain, sizes, nodes, frozenset(read_only)))
    if len(found) != 1:
        raise Refused("disk_not_in_vm", f"{len(found)} writable disks of the VM rest on {', '.join(sorted(wanted))}")
    return found[0]


def _images(image: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The active image and what is below it."""
    current: dict[str, Any] | None = image
    while current is not None:
        yield current
        current = current.get("backing-image")


async def _follow(client: QMPClient, job_id: str, on_progress: JobProgress | None) -> bool:
    """Watch the job's states for one turn; whether it came to a good end."""
    end_of_turn = clock.monotonic() + _TURN_SECONDS
    with client.listener("JOB_STATUS_CHANGE") as events:
        while True:
            job = await _job(client, job_id)
            if job is None:
                raise Permanent(f"job {job_id}: gone without a word")
            if on_progress is not None:
                on_progress(job["current-progress"], job["total-progress"])
            if job["status"] in _ENDED:
                break
            if clock.monotonic() >= end_of_turn:
                return False
            with suppress(TimeoutError):
                await asyncio.wait_for(events.get(), _POLL_SECONDS)
    await execute(client, "job-dismiss", id=job_id)
    if "error" in job:
        raise Permanent(f"job {job_id}: {job['error']}")
    return True


async def _job(client: QMPClient, job_id: str) -> dict[str, Any] | None:
    jobs: list[dict[str, Any]] = await execute(client, "query-jobs")
    return next((job for job in jobs if job["id"] == job_id), None)
