"""Layers under heads that the inventory has not listed, or whose header it could not read: what they are built on.

A head may name a layer that was uploaded after the listing; a store's index may leave an object out; a region may have
gone from fleet.toml. To the forest such a layer has nothing below it, and the chain that it is built on looks unused.
So it is looked for in every region, and its own header is followed until the forest knows the chain again. Where that
is not possible nobody can say what must stay.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from tasks.chain.layer import LAYER_ID, layer_file_name, layer_id_of
from tasks.chain.qcow2_layout import parse_header
from tasks.chain.qcow2_names import NameRules, claimed_layer
from tasks.errors import NotFound, Refused
from tasks.plan.retire import Forest, at_or_below
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.layers import find_layer

_HEADER_BYTES = 4096  # header, extensions and backing name of what QEMU writes

BackingOf = Callable[[ObjectStore, str], str | None]  # layer id -> id of the layer that its header means


def below_unlisted(
    stores: Mapping[str, ObjectStore],
    forest: Forest,
    tips: Iterable[str],
    pins: Iterable[str],
    backing_of: BackingOf,
    followed: dict[str, str | None],
) -> dict[str, str]:
    """Pins (layer id -> why) for what the layers that the forest does not know are built on.

    `followed` keeps what headers said, for the next look of the same run: layers never change. Refused
    (`chain_unknown`) if one of them cannot be found or read: then nothing may be deleted.
    """
    roots = frozenset(tips)
    known = frozenset(forest.ids)
    lost: set[str] = set()
    if forest.unknown.any():
        needed = at_or_below(forest, roots | frozenset(pins))
        lost = {forest.ids[k] for k in np.flatnonzero(needed & forest.unknown)}
    found: dict[str, str] = {}
    for layer_id in filter(LAYER_ID.fullmatch, sorted((roots - known) | lost)):  # a raw base rests on nothing
        at: str | None = layer_id
        while at is not None and at not in found:
            found[at] = f"unlisted:{layer_id}"
            if at in known and at not in lost:
                break
            if at not in followed:
                followed[at] = _follow(stores, at, layer_id, backing_of)
            at = followed[at]
    return found


def read_backing(store: ObjectStore, layer_id: str) -> str | None:
    """By one small read of the object's header. Refused with the reader's reason if it is none; NotFound."""
    block = store.get_range(keys.layer(layer_id), 0, _HEADER_BYTES)
    header = parse_header(block)
    end = header.backing_offset + header.backing_length
    if _HEADER_BYTES < end <= header.cluster_size:
        block = store.get_range(keys.layer(layer_id), 0, end)
    name = claimed_layer(block, header, NameRules(own_name=layer_file_name(layer_id)))
    return layer_id_of(name) if name else None


def _follow(stores: Mapping[str, ObjectStore], layer_id: str, root: str, backing_of: BackingOf) -> str | None:
    error: Exception | None = None
    try:
        stored = find_layer(stores, layer_id)
        if stored is not None:
            return backing_of(stores[stored.region], layer_id)
    except (NotFound, Refused) as caught:
        error = caught
    where = f"layer {layer_id}" + (f", below {root}," if layer_id != root else "")
    text = f"{where} is needed, but {error or 'in no region'}: what it is built on must not be deleted, and is unknown"
    raise Refused("chain_unknown", text)
