"""The receipt of an action, at `actions/<action_id>.json`: what was meant, done, proved and spent.

The same object is the action's journal: written with `state=intent` before the first byte moves, it names every object
that an attempt may create, so that whatever a crash leaves behind has a name.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tasks.plan.codec import action_from_json
from tasks.plan.steps import Cost, MergeAction

Outcome = Literal["published", "superseded", "lost", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. `creates` are (region, key) of the objects it may have written."""

    attempt_id: str
    started_at: str
    creates: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Proof:
    """Why the result is the same disk."""

    image_check: str  # of the new layer: clean
    ranges_compared: int
    bytes_compared: int
    sha256_before: str  # of the guest-visible content of the compared ranges, through the old chain
    sha256_after: str  # through the new one
    uploaded_sha256: str  # of the object as read back or as summed while sent
    map_equal: bool = False  # our own reader's map of the result is the predicted one


@dataclass(frozen=True, slots=True)
class Receipt:
    """See the module."""

    action: MergeAction
    state: Literal["intent", "done"]
    attempts: tuple[Attempt, ...]
    outcome: Outcome | None = None
    reason: str = ""
    new_tip: str | None = None
    new_layers: tuple[str, ...] = ()
    layers_before: int = 0
    layers_after: int = 0
    proof: Proof | None = None
    actual: Cost | None = None
    tools: dict[str, str] = field(default_factory=dict)  # qemu-img's and our own version
    finished_at: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def receipt_to_json(receipt: Receipt) -> dict[str, Any]:
    """JSON form; the inverse of `receipt_from_json`."""
    return asdict(receipt)


def receipt_from_json(raw: dict[str, Any]) -> Receipt:
    """Raises KeyError or TypeError on fields that are missing or unknown."""
    attempts = (
        Attempt(item["attempt_id"], item["started_at"], tuple((r, k) for r, k in item["creates"]))
        for item in raw["attempts"]
    )
    return Receipt(
        **{
            **raw,
            "action": action_from_json(raw["action"]),
            "attempts": tuple(attempts),
            "new_layers": tuple(raw["new_layers"]),
            "proof": Proof(**raw["proof"]) if raw["proof"] else None,
            "actual": Cost(**raw["actual"]) if raw["actual"] else None,
        }
    )
