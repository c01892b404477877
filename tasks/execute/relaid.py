"""Lay out what QEMU made anew for its upload: QEMU changes L2 tables where they are, all over the old object, and each
of them would cost a part of at least 5 MiB that is fetched and sent. Our own front has all tables in one place, so the
old object's data is copied by the store, and only new data and new tables travel.

Sub-clusters are not laid out here: such an image keeps QEMU's own layout, and changed parts travel with what is around
them.
"""

from tasks.chain.compose_layout import Rewritten, lay_out_again
from tasks.chain.extent import Ranges, subtract
from tasks.execute.assemble import Assembled, assemble, fetch_packed
from tasks.execute.guest import GuestView, same_content
from tasks.execute.job import Job
from tasks.execute.proof import Evidence, moved_ranges, prove
from tasks.execute.receipt import Proof
from tasks.execute.replica import Replica
from tasks.execute.result import Result, parts_over


def finish(job: Job, top: Replica, changed: Ranges, evidence: Evidence) -> Result:
    """The result as it is uploaded. `changed`: where the replica of the top differs from its object."""
    result = evidence.result
    facts = result.map.facts
    if facts.extended_l2:
        return Result(result, parts_over(job, top, changed), lambda: prove(evidence))
    copyable = job.can_copy_from(top.ref.region)
    image = Rewritten(result.view, top.size, top.ref.size_bytes, changed, copyable)
    layout = lay_out_again(image, facts.cluster_bits, job.fleet.policy.max_garbage_share)
    sources = [(top, result)] * 2
    fetch_packed(layout, sources)
    made = assemble(job, layout, sources)
    return Result(made.layer, made.parts, lambda: _prove(evidence, made))


def _prove(evidence: Evidence, made: Assembled) -> Proof:
    """What moved is hashed through the old chain and through the new image; what else was packed, by QEMU's image."""
    proof = prove(evidence, made.layer)
    made.check()
    rest = subtract(made.packed(), moved_ranges(evidence))
    same_content(GuestView([evidence.result]), GuestView([made.layer]), rest)
    return proof
