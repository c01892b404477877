"""How far down a running disk may be streamed: the base on which its overlay can safely be put."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.plan.hazards import Refusal, Run, refusals
from tasks.plan.inputs import LayerInput, Tools
from tasks.plan.policy import Policy
from tasks.plan.steps import Skip


def live_base(
    disk_id: str, layers: Sequence[LayerInput], private: int, virtual_size: int, policy: Policy, tools: Tools
) -> LayerInput | Skip:
    """The layer that stays below the overlay; `layers` tip to base, the first `private` of them nobody else's.

    Streaming only copies into the overlay, so the layers in between stay as they are. What block-stream gets wrong
    (hazards of the engine `stream`) is decided here: the deepest safe base inside the private part wins.
    """
    if disk_id in policy.protected_disks:
        return Skip(disk_id, "protected_disk", "named in policy.protected_disks")
    deepest = min(private, len(layers) - 1)
    why = f"{private} of {len(layers)} layers are this disk's own"
    for count in range(deepest, 0, -1):
        refusal = live_refusal(layers, count, virtual_size, policy, tools)
        if refusal is None:
            return layers[count]
        why = f"{refusal.code}: {refusal.text}"
    return Skip(disk_id, "no_safe_engine", why)


def live_refusal(
    layers: Sequence[LayerInput], count: int, virtual_size: int, policy: Policy, tools: Tools
) -> Refusal | None:
    """The hazard that forbids an overlay of that size over the tip `layers[0]` to be put on `layers[count]`, if any."""
    overlay = replace(layers[0], layer_id="overlay", virtual_size=max(virtual_size, layers[0].virtual_size), bitmaps=0)
    return refusals(Run((overlay, *layers[:count]), tuple(layers[count:]), policy, tools)).get("stream")
