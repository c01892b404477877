"""The journal of an action in the control store: intent before the first byte moves, the receipt at the end.

One object per action, changed by compare-and-swap only. Every change is written so that making it twice is the same as
making it once: a lost answer is treated like a lost race, the record is read again and the change made anew.

The record of an action belongs to its newest attempt, except that an attempt which has published always says so.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from tasks.errors import NotFound, Permanent, PreconditionFailed, Transient
from tasks.execute.receipt import Attempt, Outcome, Proof, Receipt, receipt_from_json, receipt_to_json
from tasks.plan.steps import Cost, MergeAction
from tasks.retry import until_won
from tasks.store import keys
from tasks.store.base import ObjectStore

MAX_ATTEMPTS = 32  # that a record names: each of them costs every later attempt some requests


class Journal:
    """`actions/<action_id>.json` of one action, as one attempt sees it."""

    def __init__(self, control: ObjectStore, action: MergeAction, attempt_id: str) -> None:
        self._control = control
        self._action = action
        self._attempt_id = attempt_id
        self._key = keys.action(action.action_id)

    def read(self) -> Receipt | None:
        """The record now."""
        return self._load()[0]

    def begin(self, creates: tuple[tuple[str, str], ...]) -> Receipt:
        """Write the intent of this attempt: from now on everything that it may leave behind has a name.

        A record of an action that was published (and undone since) is kept in `extra` and begun anew, so that no
        attempt cleans up what was once live. Only the newest attempts are kept: what an older one may have left is
        referred to by nobody, and retirement finds it.
        """
        attempt = Attempt(self._attempt_id, self._control.now().isoformat(), creates)

        def change(old: Receipt | None) -> Receipt:
            if old is None:
                return Receipt(self._action, "intent", (attempt,))
            if old.state == "done" and old.outcome == "published":
                history = [*old.extra.get("previous", []), _summary(old)]
                return Receipt(self._action, "intent", (attempt,), extra={"previous": history})
            attempts = (*(a for a in old.attempts if a.attempt_id != attempt.attempt_id), attempt)[-MAX_ATTEMPTS:]
            named = {one.attempt_id for one in attempts}
            ready = {name: facts for name, facts in old.extra.get("ready", {}).items() if name in named}
            extra = {**old.extra, "ready": ready} if ready or "ready" in old.extra else old.extra
            return replace(old, state="intent", outcome=None, reason="", attempts=attempts, extra=extra)

        return self._change(change)

    def ready(self, facts: dict[str, Any]) -> None:
        """Everything is uploaded and proved: what a later attempt needs to write the receipt if this one dies now."""

        def change(old: Receipt | None) -> Receipt:
            receipt = self._require(old)
            known = {**receipt.extra.get("ready", {}), self._attempt_id: facts}
            return replace(receipt, extra={**receipt.extra, "ready": known})

        self._change(change)

    def publish(self, attempt_id: str, tools: dict[str, str]) -> Receipt:
        """The head names the tip that `attempt_id` made: turn what it noted when it was ready into the receipt."""
        finished_at = self._control.now().isoformat()

        def change(old: Receipt | None) -> Receipt:
            receipt = self._require(old)
            if receipt.state == "done" and receipt.outcome == "published":
                return receipt
            facts = receipt.extra.get("ready", {}).get(attempt_id)
            if facts is None:
                raise Permanent(f"{self._key}: attempt {attempt_id} published, but noted no proof")
            return replace(
                receipt,
                state="done",
                outcome="published",
                reason="",
                new_tip=facts["new_tip"],
                new_layers=tuple(facts["new_layers"]),
                layers_before=facts["layers_before"],
                layers_after=facts["layers_after"],
                proof=Proof(**facts["proof"]),
                actual=Cost(**facts["actual"]),
                tools=tools,
                finished_at=finished_at,
                extra={**receipt.extra, "published_by": attempt_id},
            )

        return self._change(change)

    def close(self, outcome: Outcome, reason: str, actual: Cost, tools: dict[str, str]) -> Receipt:
        """The end of an attempt that did not publish. A newer attempt's record is left alone."""
        finished_at = self._control.now().isoformat()

        def change(old: Receipt | None) -> Receipt:
            receipt = self._require(old)
            newest = receipt.attempts[-1].attempt_id if receipt.attempts else ""
            if receipt.state == "done" or newest != self._attempt_id:
                return receipt
            return replace(
                receipt,
                state="done",
                outcome=outcome,
                reason=reason,
                actual=actual,
                tools=tools,
                finished_at=finished_at,
            )

        return self._change(change)

    def _change(self, change: Callable[[Receipt | None], Receipt]) -> Receipt:
        return until_won()(self._try, change)

    def _try(self, change: Callable[[Receipt | None], Receipt]) -> Receipt:
        old, etag = self._load()
        new = change(old)
        if new == old:
            return new
        body = json.dumps(receipt_to_json(new), indent=1).encode()
        try:
            if etag is None:
                self._control.put_new(self._key, body)
            else:
                self._control.put_if_match(self._key, body, etag)
        except Transient as error:
            raise PreconditionFailed(f"{self._key}: no answer: {error}") from None
        return new

    def _load(self) -> tuple[Receipt | None, str | None]:
        try:
            return load_receipt(self._control, self._action.action_id)
        except NotFound:
            return None, None

    def _require(self, receipt: Receipt | None) -> Receipt:
        if receipt is None:
            raise Permanent(f"{self._control.bucket}/{self._key}: the journal vanished")
        return receipt


def load_receipt(control: ObjectStore, action_id: str) -> tuple[Receipt, str]:
    """The record of an action and its ETag. NotFound; Permanent if it cannot be read: it might say anything."""
    key = keys.action(action_id)
    body, info = control.get(key)
    try:
        return receipt_from_json(json.loads(body)), info.etag
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Permanent(f"{control.bucket}/{key}: malformed receipt: {error}") from None


def ready_facts(
    new_tip: str, new_layers: list[str], depth: tuple[int, int], proof: Proof, cost: Cost, *, new_bytes: int
) -> dict[str, Any]:
    """What `Journal.ready` keeps. `depth`: layers of the chain before and after; `new_bytes`: stored in new layers."""
    return {
        "new_tip": new_tip,
        "new_layers": new_layers,
        "new_bytes": new_bytes,
        "layers_before": depth[0],
        "layers_after": depth[1],
        "proof": asdict(proof),
        "actual": asdict(cost),
    }


def _summary(receipt: Receipt) -> dict[str, Any]:
    return {
        "finished_at": receipt.finished_at,
        "outcome": receipt.outcome,
        "new_tip": receipt.new_tip,
        "new_layers": list(receipt.new_layers),
    }
