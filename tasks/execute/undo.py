"""Undo: point a head back to what it was before its last action, as long as the replaced layers are still there.

Order: a lease (which pins what the last action replaced, however long we are paused); every replaced layer is checked
and saved from retirement (tombstone); the head is swung by one conditional write. A crash before the swing leaves the
lease, which expires, and saved tombstones, which retirement turns back; after it, the old chain lives.
"""

from tasks.chain.head import Head
from tasks.errors import NotFound, Refused
from tasks.execute.journal import load_receipt
from tasks.execute.receipt import Receipt
from tasks.plan.steps import LayerRef
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.heads import HeadStore, HeadVersion
from tasks.store.tombstones import Tombstones

LEASE_SECONDS = 600.0  # an undo is a few small requests


def undo(control: ObjectStore, stores: dict[str, ObjectStore], disk_id: str, attempt_id: str) -> HeadVersion:
    """The head after it. Calling again with the same attempt id is a no-op.

    Refused: `nothing_to_undo`, `head_moved`, `disk_running`, `leased`, `undo_too_late` (a layer is gone or going).
    PreconditionFailed: somebody else changed the head meanwhile; nothing happened.
    """
    heads = HeadStore(control)
    version = heads.read(disk_id)
    if version.head.attempt_id == attempt_id and version.head.lease is None:
        return version
    receipt = _last_action(control, version.head)
    name = f"undo-{attempt_id}"
    held = heads.acquire_lease(disk_id, name, f"{attempt_id}-lease", LEASE_SECONDS, tip=version.head.tip)
    try:
        _keep(control, stores, receipt, name)
    except Refused:
        heads.withdraw(held)
        raise
    return heads.swap(held, attempt_id, tip=receipt.action.tip, action_id=None, lease=None)


def _last_action(control: ObjectStore, head: Head) -> Receipt:
    if head.action_id is None:
        raise Refused("nothing_to_undo", f"disk {head.disk_id}: no action has swung this head")
    receipt = _receipt(control, head.action_id)
    if receipt.new_tip != head.tip:
        text = f"disk {head.disk_id}: written to since action {head.action_id}; tip is {head.tip}"
        raise Refused("head_moved", text)
    return receipt


def _receipt(control: ObjectStore, action_id: str) -> Receipt:
    try:
        return load_receipt(control, action_id)[0]
    except NotFound:
        raise Refused("nothing_to_undo", f"{keys.action(action_id)}: the receipt is gone") from None


def _keep(control: ObjectStore, stores: dict[str, ObjectStore], receipt: Receipt, name: str) -> None:
    """Save what the action replaced; then see that the whole old chain is there, as it was."""
    action = receipt.action
    tombstones = Tombstones(control)
    for ref in (*action.above, *action.run):
        _check_there(stores, ref)
        tombstones.save(ref, name)
    for ref in (*action.above, *action.run, *((action.base,) if action.base else ()), *action.below):
        _check_there(stores, ref)


def _check_there(stores: dict[str, ObjectStore], ref: LayerRef) -> None:
    try:
        info = stores[ref.region].info(keys.layer(ref.layer_id))
    except NotFound:
        raise Refused("undo_too_late", f"layer {ref.layer_id} ({ref.region}) is deleted already") from None
    if info.etag != ref.etag:
        raise Refused("layer_changed", f"layer {ref.layer_id} ({ref.region}) is not the object that was replaced")
