"""What unfinished work holds: the layers that a running action reads or may have written, and uploads under way."""

from collections.abc import Iterable, Mapping

from tasks.chain.head import Head
from tasks.chain.layer import layer_id_of
from tasks.errors import NotFound
from tasks.execute.journal import load_receipt
from tasks.execute.receipt import Receipt
from tasks.store import keys
from tasks.store.base import ObjectStore


def pinned_layers(
    control: ObjectStore, stores: Mapping[str, ObjectStore], heads: Iterable[Head], horizon_seconds: float
) -> dict[str, str]:
    """Layer id -> who holds it. Work that has not moved for `horizon_seconds` (the grace) is abandoned.

    Except under a lease, expired or not: its holder may be paused and can still publish, until somebody changes the
    head. Then what its action names stays, and what the head's last action replaced (its holder may be an undo).
    Raises the store's errors, and Permanent on a journal that cannot be read: it might hold anything.
    """
    leased = {name for head in heads if head.lease for name in (head.lease.action_id, head.action_id) if name}
    pins: dict[str, str] = {}
    now = control.now()
    for info in control.list(keys.ACTIONS):
        name = info.key.removeprefix(keys.ACTIONS).removesuffix(".json")
        if name in leased or (now - info.last_modified).total_seconds() < horizon_seconds:
            held = _held_by(control, name, even_done=name in leased)
            pins.update(dict.fromkeys(held, f"action:{name}"))
    for store in stores.values():
        for upload in store.list_multipart(keys.LAYERS):
            layer_id = layer_id_of(upload.key.removeprefix(keys.LAYERS))
            if layer_id is not None:
                pins.setdefault(layer_id, f"upload:{upload.upload_id}")
    return pins


def _held_by(control: ObjectStore, action_id: str, *, even_done: bool) -> set[str]:
    try:
        receipt, _ = load_receipt(control, action_id)
    except NotFound:
        return set()
    return _layers_of(receipt) if even_done or receipt.state == "intent" else set()


def _layers_of(receipt: Receipt) -> set[str]:
    action = receipt.action
    inputs = {ref.layer_id for ref in (*action.above, *action.run, *action.below)} | {action.tip}
    if action.base is not None:
        inputs.add(action.base.layer_id)
    created = (layer_id_of(key.removeprefix(keys.LAYERS)) for attempt in receipt.attempts for _, key in attempt.creates)
    return inputs | {layer_id for layer_id in created if layer_id is not None}
