"""One attempt of one merge action, from intent to receipt.

Order of an attempt, and what a kill -9 leaves behind after each named point (`tasks.execute.checkpoint`). Objects are
named in the journal before they are written; the head is the old one up to `published` and the new one from then on,
and every layer that either of them refers to is there.

    point       left behind                                        what the next attempt of the action does
    intent      the journal's intent                               adds itself to it
    leased      and a lease on the head                            takes the lease over: it is of the same action
    cleaned     the same                                           the same
    reserved    and a folder whose reservation is unlocked         removed when space is next reserved on that host
    fetched     and files in it                                    the same
    merged      the same                                           the same
    proved      the same                                           the same
    uploading   and an unfinished multipart upload                 aborts it (named in the journal)
    uploaded    and new objects that nothing refers to             deletes them (named in the journal)
    verified    the same; the journal holds the proof              the same
    published   the new head; the journal still says intent        writes the receipt from the noted proof: no-op
    receipted   nothing but the folder                             finds the receipt: no-op

Leftovers are removed only after the lease is taken: its write changed the head, so an older attempt that still runs (or
wakes up) fails its own conditional write, and its objects can never become live. An attempt that may have published
once (its proof is noted, and the head does not carry its lease any more) is left to retirement, which looks at every
head and child first.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.chain.head import Head
from tasks.errors import ChainwrightError, OutcomeUnknown, PreconditionFailed, Refused
from tasks.execute import compose, leftovers, rebase, stream
from tasks.execute.fullcheck import compare_views
from tasks.execute.job import Job, check_inputs
from tasks.execute.journal import Journal, ready_facts
from tasks.execute.receipt import Outcome, Proof, Receipt
from tasks.execute.reheader import copy_with_backing
from tasks.execute.result import Result
from tasks.execute.upload import Uploaded, upload, verify_copies, verify_uploaded
from tasks.execute.workspace import reserve
from tasks.plan.steps import Cost
from tasks.qemu import img
from tasks.store.heads import HeadStore, HeadVersion
from tasks.units import MIB

log = logging.getLogger(__name__)

ENGINES: dict[str, Callable[[Job], Result]] = {"rebase": rebase.merge, "stream": stream.merge, "compose": compose.merge}
_SPARE_BYTES = 32 * MIB  # logs, read-back metadata, what a prediction may be off
_LOST_REASONS = {"disk_running", "head_moved"}  # the head went on since the plan was made


@dataclass(slots=True)
class Attempt:
    """The parts of one attempt, and the lease that it holds once it does."""

    job: Job
    heads: HeadStore
    journal: Journal
    held: HeadVersion | None = None

    @property
    def lease(self) -> HeadVersion:
        """The head as this attempt wrote it last."""
        assert self.held is not None
        return self.held


def run_action(job: Job, heads: HeadStore) -> Receipt:
    """Run the attempt to its end; the receipt says how it ended.

    published    by this attempt, or by an earlier one whose receipt was finished or found
    superseded   another attempt of the same action published or took over: a success that did nothing
    lost         the head went on (a VM started, another action was first); the result was thrown away
    refused      a rule forbids it; nothing was changed

    Everything else raises: Transient (try again), Permanent (the receipt says `failed`), OutcomeUnknown (nothing was
    deleted; the journal names everything), NotFound (no such disk).
    """
    attempt = Attempt(job, heads, Journal(heads.control, job.action, job.attempt_id))
    before = heads.read(job.action.disk_id)
    found = _published_already(attempt, before.head)
    if found is not None:
        return found
    attempt.journal.begin(job.creates())
    job.at("intent")
    try:
        return _under_lease(attempt, before.head)
    except PreconditionFailed as error:
        return _overtaken(attempt, error)
    except Refused as error:
        outcome: Outcome = "lost" if error.reason in _LOST_REASONS else "refused"
        return _give_up(attempt, outcome, str(error))
    except OutcomeUnknown:
        log.exception("disk %s: outcome unknown, nothing is deleted", job.action.disk_id)
        raise
    except ChainwrightError as error:
        if _lease_is_gone(attempt):  # its new holder has cleaned up under us: that is why
            return _overtaken(attempt, PreconditionFailed(str(error)))
        _give_up(attempt, "failed", str(error))
        raise
    except BaseException as error:
        _give_up(attempt, "failed", str(error) or type(error).__name__)
        raise


def _under_lease(attempt: Attempt, before: Head) -> Receipt:
    job, action = attempt.job, attempt.job.action
    seconds = job.fleet.policy.safety.lease_seconds
    attempt.held = attempt.heads.acquire_lease(action.disk_id, action.action_id, job.attempt_id, seconds, action.tip)
    job.at("leased")
    leftovers.clean(job, attempt.journal.read(), before, attempt.held.head)
    job.at("cleaned")
    check_inputs(job, job.chain)
    with reserve(Path(job.fleet.work_dir), job.new_layer_id(0), _room(job), job.fleet.work_bytes) as workspace:
        attempt.job = replace(job, folder=workspace.path)
        attempt.job.at("reserved")
        with attempt.job.opened:
            return _make_and_publish(attempt)


def _room(job: Job) -> int:
    """Bytes of the work directory to reserve: what was predicted and a margin; whole layers for a full verification."""
    full = sum(ref.size_bytes for ref in job.chain) if job.fleet.policy.safety.verify == "full" else 0
    return job.action.cost.temp_bytes * 5 // 4 + 2 * full + _SPARE_BYTES


def _make_and_publish(attempt: Attempt) -> Receipt:
    job = attempt.job
    if job.action.engine not in ENGINES:
        raise Refused("engine_unavailable", f"this worker has no engine {job.action.engine}")
    job.meter.step("merge")
    result = ENGINES[job.action.engine](job)
    job.at("merged")
    proof = result.prove()
    job.at("proved")
    _renew(attempt)
    job.meter.step("upload")
    uploaded = _upload_all(job, result)
    job.at("uploaded")
    job.meter.step("verify")
    verify_uploaded(job, uploaded[0], result.layer.map)
    verify_copies(job, uploaded[0], result.parts)
    proof = replace(proof, uploaded_sha256=uploaded[0].sent_sha256)
    if job.fleet.policy.safety.verify == "full":
        compare_views(job, [item.ref for item in reversed(uploaded)])
    _renew(attempt)
    return _publish(attempt, uploaded, proof)


def _upload_all(job: Job, result: Result) -> list[Uploaded]:
    """The merged layer, then upwards each layer above it under a new id."""
    done = [upload(job, job.new_layer_id(0), result.parts)]
    for number, ref in enumerate(reversed(job.action.above), start=1):
        done.append(copy_with_backing(job, ref, number, done[-1].ref.layer_id))
    return done


def _publish(attempt: Attempt, uploaded: list[Uploaded], proof: Proof) -> Receipt:
    job, action = attempt.job, attempt.job.action
    new_layers = [item.ref.layer_id for item in uploaded]
    depth = len(job.chain)
    new_bytes = sum(item.ref.size_bytes for item in uploaded)
    layers = (depth, depth - len(action.run) + 1)
    facts = ready_facts(new_layers[-1], new_layers, layers, proof, _cost(job), new_bytes=new_bytes)
    attempt.journal.ready(facts)
    job.at("verified")
    job.meter.step("publish")
    attempt.heads.publish(attempt.lease, new_layers[-1])
    job.at("published")
    receipt = attempt.journal.publish(job.attempt_id, _tools())
    job.at("receipted")
    return receipt


def _renew(attempt: Attempt) -> None:
    """Push the lease's expiry out, and learn at once if somebody else was faster."""
    attempt.held = attempt.heads.renew(attempt.lease, attempt.job.fleet.policy.safety.lease_seconds)


def _published_already(attempt: Attempt, head: Head) -> Receipt | None:
    """The receipt, if an attempt of this action swung the head; finished first if its writer died before."""
    action = attempt.job.action
    if head.action_id != action.action_id or head.tip == action.tip:
        return None
    receipt = attempt.journal.read()
    if receipt is None:
        return None
    writer = _writer(receipt, head)
    return attempt.journal.publish(writer, _tools()) if writer else None


def _writer(receipt: Receipt, head: Head) -> str | None:
    """Which attempt published: the one whose tip is there, else the newest one that wrote to this head."""
    ready = receipt.extra.get("ready", {})
    for attempt_id, facts in ready.items():
        if facts["new_tip"] == head.tip:
            return str(attempt_id)
    return next((name for name in reversed(head.trail) if name in ready), None)


def _lease_is_gone(attempt: Attempt) -> bool:
    if attempt.held is None:
        return False
    return attempt.heads.read(attempt.job.action.disk_id).head.generation != attempt.held.head.generation


def _overtaken(attempt: Attempt, error: PreconditionFailed) -> Receipt:
    """A conditional write failed: who was it?"""
    action = attempt.job.action
    head = attempt.heads.read(action.disk_id).head
    same = head.action_id == action.action_id or (head.lease is not None and head.lease.action_id == action.action_id)
    if not same:
        return _give_up(attempt, "lost", _who(head, error))
    receipt = _give_up(attempt, "superseded", "another attempt of this action published or took over")
    return replace(receipt, outcome="superseded", reason="another attempt of this action published or took over")


def _who(head: Head, error: PreconditionFailed) -> str:
    if head.state == "running":
        return f"disk_running: disk {head.disk_id} was started on {head.host or 'an unnamed host'} meanwhile"
    return f"head_moved: {error}"


def _give_up(attempt: Attempt, outcome: Outcome, reason: str) -> Receipt:
    """Give the lease back, throw the result away, say so. Deletes nothing that could be, or ever was, published."""
    job = attempt.job
    if _withdrawn(attempt):
        leftovers.discard(job)
    else:
        log.warning("disk %s: nothing is removed, the publish may have been applied", job.action.disk_id)
        found = _published_already(attempt, attempt.heads.read(job.action.disk_id).head)
        if found is not None:
            return found
    log.warning("disk %s: %s: %s", job.action.disk_id, outcome, reason)
    return attempt.journal.close(outcome, reason, _cost(job), _tools())


def _withdrawn(attempt: Attempt) -> bool:
    """Is it certain that no write of this attempt swings the head, even one that is still on its way?"""
    if attempt.held is None:
        return True
    try:
        return attempt.heads.withdraw(attempt.held)
    except ChainwrightError as error:
        log.warning("disk %s: the head cannot be read or written: %s", attempt.job.action.disk_id, error)
        return False


def _cost(job: Job) -> Cost:
    cost = job.meter.cost()
    regions = cost.read_bytes.keys() | cost.copy_bytes.keys()
    moved = {region: cost.read_bytes.get(region, 0) + cost.copy_bytes.get(region, 0) for region in regions}
    usd = sum(job.fleet.egress_usd(region, job.action.home_region, count) for region, count in moved.items())
    return replace(cost, egress_usd=round(usd, 9), temp_bytes=job.action.cost.temp_bytes)


def _tools() -> dict[str, str]:
    return {"qemu-img": img.version()}
