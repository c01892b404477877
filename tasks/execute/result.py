"""What an engine hands over: the merged layer, the parts to make it of, and how to prove it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasks.chain import parts as part_plans
from tasks.chain.extent import Ranges
from tasks.execute.guest import LocalLayer
from tasks.execute.job import Job
from tasks.execute.receipt import Proof
from tasks.execute.replica import Replica, one_range
from tasks.execute.upload import Copy, PartSource, Send


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """See the module."""

    layer: LocalLayer
    parts: Sequence[PartSource]
    prove: Callable[[], Proof]  # Permanent, with the reason, if the result is not the same disk


def parts_over(job: Job, top: Replica, changed: Ranges) -> list[PartSource]:
    """Parts of a replica that was changed in the given ranges; what a sent part needs of the object is fetched."""
    old_size = top.ref.size_bytes if job.can_copy_from(top.ref.region) else 0
    plans = part_plans.plan_parts(top.size, changed, old_size)
    for plan in plans:
        if not plan.copy:
            top.fetch(one_range(plan.start, plan.start + plan.length))
    return [
        Copy(top.ref, plan.start, plan.length) if plan.copy else Send(top, plan.start, plan.length) for plan in plans
    ]
