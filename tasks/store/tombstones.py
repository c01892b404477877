"""Tombstones: the record that a layer is on its way out, `tombstones/<layer_id>.json` in the control store.

    (none) ──mark──> marked ──claim──> deleting ──layer gone, another grace──> (none)
      │                └────save──┐
      └───────────save────────> saved ──reachable again──> (none)
                                  └──claim──> marked (another grace)

Every change is a compare-and-swap, so that `claim` (before a deletion) and `save` (before a head is pointed at the
layer again: undo) exclude each other, whoever is slow. Whoever claims looks at the heads again before it deletes;
whoever saves does so before it writes a head. Then either the claim fails, or the deleting run sees the new head, or
the saver is told that it is too late. A tombstone's age is the age of its object by the store's clock, so every change
starts it anew: a run that died half way costs another grace, never a layer.

A claim is of the very version that was judged to be old enough: a run that paused in between must not cut the grace of
a layer that was saved and marked anew. The record of a deleted layer stays for another grace, so that nobody makes an
object of that name while a delete request may still be on its way.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Literal, NamedTuple

from tasks.errors import NotFound, Permanent, PreconditionFailed, Refused, Transient
from tasks.plan.steps import LayerRef
from tasks.retry import until_won
from tasks.store import keys
from tasks.store.base import ObjectInfo, ObjectStore

TombstoneState = Literal["marked", "deleting", "saved"]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What the record says of the layer's object as it was when it was marked."""

    layer_id: str
    region: str
    etag: str
    size_bytes: int
    state: TombstoneState
    run_id: str  # the run (or undo, import) that wrote this state


class Claim(NamedTuple):
    """A record as this run turned it, and the ETag of that version."""

    stone: Tombstone
    etag: str


class Tombstones:
    """All methods raise Transient and Permanent when the store cannot be used."""

    def __init__(self, control: ObjectStore) -> None:
        self._control = control

    def listing(self) -> dict[str, ObjectInfo]:
        """Every tombstone's object by layer id: complete or an error."""
        found = {}
        for info in self._control.list(keys.TOMBSTONES):
            found[info.key.removeprefix(keys.TOMBSTONES).removesuffix(".json")] = info
        return found

    def read(self, layer_id: str) -> tuple[Tombstone, str] | None:
        """The record and its ETag; None if there is none."""
        try:
            body, info = self._control.get(keys.tombstone(layer_id))
        except NotFound:
            return None
        try:
            return Tombstone(**json.loads(body)), info.etag
        except (ValueError, TypeError) as error:
            raise Permanent(f"{info.key}: malformed tombstone: {error}") from None

    def mark(self, layer: LayerRef, run_id: str) -> None:
        """Write the first record. A record that is there stays as it is."""
        until_won()(self._create, _stone(layer, "marked", run_id))

    def claim(self, layer_id: str, etag: str, run_id: str) -> Claim | None:
        """Announce the deletion of what was judged under that ETag.

        None if the record went or changed since, or was saved: then the layer stays.
        """
        return until_won()(self._claim, layer_id, etag, run_id)

    def save(self, layer: LayerRef, run_id: str) -> None:
        """Keep the layer: call before a head is pointed at it again.

        Refused (`being_deleted`) once a deletion was announced.
        """
        until_won()(self._save, layer, run_id)

    def drop(self, layer_id: str, etag: str) -> None:
        """Forget this version of the record: its layer is gone, or reachable again. Another version stays."""
        with suppress(PreconditionFailed):
            self._control.delete(keys.tombstone(layer_id), if_match=etag)

    def _create(self, stone: Tombstone) -> bool:
        """False if there is a record already."""
        try:
            self._control.put_new(keys.tombstone(stone.layer_id), _render(stone))
        except PreconditionFailed:
            return False
        except Transient as error:
            raise PreconditionFailed(str(error)) from None
        return True

    def _claim(self, layer_id: str, etag: str, run_id: str) -> Claim | None:
        found = self.read(layer_id)
        if found is None:
            return None
        stone, current = found
        if (stone.state, stone.run_id) == ("deleting", run_id):  # done, but the answer was lost
            return Claim(stone, current)
        if current != etag:
            return None
        if stone.state == "saved":
            self._turn(stone, etag, "marked", run_id)
            return None
        return self._turn(stone, etag, "deleting", run_id)

    def _save(self, layer: LayerRef, run_id: str) -> None:
        found = self.read(layer.layer_id)
        if found is None:
            if not self._create(_stone(layer, "saved", run_id)):
                raise PreconditionFailed(f"tombstone of {layer.layer_id} appeared")
            return
        stone, etag = found
        if stone.state == "deleting":
            raise Refused("being_deleted", f"layer {layer.layer_id} is being deleted by {stone.run_id}")
        self._turn(stone, etag, "saved", run_id)

    def _turn(self, stone: Tombstone, etag: str, state: TombstoneState, run_id: str) -> Claim:
        if (stone.state, stone.run_id) == (state, run_id):
            return Claim(stone, etag)
        turned = replace(stone, state=state, run_id=run_id)
        try:
            return Claim(turned, self._control.put_if_match(keys.tombstone(stone.layer_id), _render(turned), etag))
        except Transient as error:  # applied or not: the next look tells
            raise PreconditionFailed(str(error)) from None


def _stone(layer: LayerRef, state: TombstoneState, run_id: str) -> Tombstone:
    return Tombstone(layer.layer_id, layer.region, layer.etag, layer.size_bytes, state, run_id)


def _render(stone: Tombstone) -> bytes:
    return json.dumps(asdict(stone), indent=1).encode()
