"""What unfinished work holds: the layers that a running action reads or may have written, and uploads under way."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tasks.chain.head import Head
from tasks.chain.layer import layer_id_of
from tasks.errors import NotFound
from tasks.execute.journal import load_receipt
from tasks.execute.receipt import Receipt
from tasks.store import keys
from tasks.store.base import ObjectStore

READERS = 16  # journals read at once


class Held(NamedTuple):
    """What one version of a journal says: is the action done, and which layers it names."""

    etag: str
    done: bool
    layers: frozenset[str]


def pinned_layers(
    control: ObjectStore,
    stores: Mapping[str, ObjectStore],
    heads: Iterable[Head],
    horizon_seconds: float,
    known: dict[str, Held],
) -> dict[str, str]:
    """Layer id -> who holds it. Work that has not moved for `horizon_seconds` (the grace) is abandoned.

    Except under a lease, expired or not: its holder may be paused and can still publish, until somebody changes the
    head. Then what its action names stays, and what the head's last action replaced (its holder may be an undo).
    `known` keeps what was read, for the next look of the same run: by ETag, never by age. Raises the store's errors,
    and Permanent on a journal that cannot be read: it might hold anything.
    """
    leased = {name for head in heads if head.lease for name in (head.lease.action_id, head.action_id) if name}
    pins: dict[str, str] = {}
    now = control.now()
    wanted = []
    for info in control.list(keys.ACTIONS):
        name = info.key.removeprefix(keys.ACTIONS).removesuffix(".json")
        if name in leased or (now - info.last_modified).total_seconds() < horizon_seconds:
            wanted.append((name, info.etag))
    with ThreadPoolExecutor(READERS) as pool:
        known.update({name: held for name, held in pool.map(lambda one: _read(control, known, *one), wanted) if held})
    for name, _ in wanted:
        if name in known and (name in leased or not known[name].done):
            pins.update(dict.fromkeys(known[name].layers, f"action:{name}"))
    for store in stores.values():
        for upload in store.list_multipart(keys.LAYERS):
            layer_id = layer_id_of(upload.key.removeprefix(keys.LAYERS))
            if layer_id is not None:
                pins.setdefault(layer_id, f"upload:{upload.upload_id}")
    return pins


def _read(control: ObjectStore, known: Mapping[str, Held], action_id: str, etag: str) -> tuple[str, Held | None]:
    """None if it went meanwhile."""
    old = known.get(action_id)
    if old is not None and old.etag == etag:
        return action_id, old
    try:
        receipt, now = load_receipt(control, action_id)
    except NotFound:
        return action_id, None
    return action_id, Held(now, receipt.state == "done", frozenset(_layers_of(receipt)))


def _layers_of(receipt: Receipt) -> set[str]:
    action = receipt.action
    inputs = {ref.layer_id for ref in (*action.above, *action.run, *action.below)} | {action.tip}
    if action.base is not None:
        inputs.add(action.base.layer_id)
    created = (layer_id_of(key.removeprefix(keys.LAYERS)) for attempt in receipt.attempts for _, key in attempt.creates)
    return inputs | {layer_id for layer_id in created if layer_id is not None}
