"""Finding layers in the fleet's buckets without a manifest: one HEAD per region."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tasks.errors import NotFound
from tasks.store import keys
from tasks.store.base import ObjectInfo, ObjectStore

LOOKUPS = 16  # at once


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """Where a layer is."""

    layer_id: str
    region: str
    info: ObjectInfo


def find_layer(stores: Mapping[str, ObjectStore], layer_id: str, first: str = "") -> StoredLayer | None:
    """The layer in region `first` if it is there, else in any other; None only if every region says that it is absent.

    An unreachable region raises: it might hold the layer.
    """
    return find_object(stores, keys.layer(layer_id), layer_id, first)


def find_object(stores: Mapping[str, ObjectStore], key: str, layer_id: str, first: str = "") -> StoredLayer | None:
    """As `find_layer`, for any key (raw bases have names of their own)."""
    for region in sorted(stores, key=lambda name: (name != first, name)):
        try:
            return StoredLayer(layer_id, region, stores[region].info(key))
        except NotFound:
            continue
    return None


def find_layers(stores: Mapping[str, ObjectStore], wanted: Iterable[tuple[str, str]]) -> list[StoredLayer | None]:
    """`find_layer` for many (layer id, first region) at once, in their order."""
    with ThreadPoolExecutor(LOOKUPS) as pool:
        return list(pool.map(lambda pair: find_layer(stores, pair[0], pair[1]), list(wanted)))
