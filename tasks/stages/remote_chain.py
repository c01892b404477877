"""A chain in the fleet's buckets, walked from a tip by the names in the headers: metadata only, read by our own reader.

No manifest is needed, so it also works for what was uploaded a moment ago.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tasks.chain.extent import Extents
from tasks.chain.layer import ExtentKind, LayerFacts, layer_file_name, layer_id_of
from tasks.chain.qcow2_names import FORMAT_RAW, NameRules
from tasks.chain.qcow2_reader import Qcow2Reader
from tasks.errors import NotFound, Refused
from tasks.plan.inputs import LayerInput
from tasks.store import keys
from tasks.store.base import ObjectInfo, ObjectStore
from tasks.store.layers import StoredLayer, find_object

MAX_LAYERS = 10_000


@dataclass(frozen=True, slots=True)
class RemoteLayer:
    """One object of the chain. `facts` is None for a raw base; `data_bytes` are guest bytes of data and compressed."""

    name: str  # file name by which the child's header refers to it
    stored: StoredLayer
    facts: LayerFacts | None
    data_bytes: int
    rules: NameRules = field(default_factory=NameRules)  # under which the header was accepted

    @property
    def info(self) -> ObjectInfo:
        """Key, size and ETag."""
        return self.stored.info


def walk(stores: Mapping[str, ObjectStore], tip: str, home: str, raw_bases: Collection[str] = ()) -> list[RemoteLayer]:
    """The chain of layer id `tip`, base first. `raw_bases`: object keys that policy accepts as raw images.

    Refused: `layer_missing` (absent in every region), `backing_cycle`, `chain_too_long`, or the reader's reason.
    """
    raw_keys = {key.rsplit("/", 1)[-1]: key for key in raw_bases}
    layers: list[RemoteLayer] = []
    seen: set[str] = set()
    name: str | None = layer_file_name(tip)
    while name is not None:
        if name in seen:
            raise Refused("backing_cycle", f"layer {layers[-1].name}: backing file {name} is above it already")
        if len(layers) >= MAX_LAYERS:
            raise Refused("chain_too_long", f"layer {tip}: more than {MAX_LAYERS} layers below it")
        seen.add(name)
        layers.append(_read(stores, name, layers[-1] if layers else None, raw_keys, home))
        facts = layers[-1].facts
        name = facts.backing_file if facts else None
    return layers[::-1]


def _read(
    stores: Mapping[str, ObjectStore], name: str, child: RemoteLayer | None, raw_keys: Mapping[str, str], home: str
) -> RemoteLayer:
    raw = child is not None and child.facts is not None and child.facts.backing_format == FORMAT_RAW
    key = raw_keys[name] if raw else keys.LAYERS + name
    stored = find_object(stores, key, name.removesuffix(".qcow2"), child.stored.region if child else home)
    if stored is None:
        of = f", the backing file of layer {child.stored.layer_id}" if child else ""
        raise Refused("layer_missing", f"layer {name}{of}: in no region of this fleet ({', '.join(sorted(stores))})")
    if raw:
        return RemoteLayer(name, stored, None, stored.info.size)
    rules = NameRules(frozenset(raw_keys), own_name=name)
    facts, data_bytes = read_metadata(stores[stored.region], stored.info, rules)
    if facts.status != "ok":
        raise Refused(facts.reason or "unreadable", f"layer {name} in {stored.region}: {facts.detail}")
    return RemoteLayer(name, stored, facts, data_bytes, rules)


def read_metadata(store: ObjectStore, info: ObjectInfo, rules: NameRules) -> tuple[LayerFacts, int]:
    """Facts of one object and the guest bytes that it stores. NotFound if it goes while it is read."""
    reader = Qcow2Reader(info.size, rules)
    data_bytes = 0
    while reader.wants:
        try:
            blocks = [store.get_range(info.key, part.start, part.length, info.etag) for part in reader.wants]
        except NotFound:
            raise NotFound(f"{store.bucket}/{info.key} ({store.region}): deleted while it was read") from None
        data_bytes += sum(_data_bytes(batch) for batch in reader.feed(blocks))
    return reader.facts, data_bytes


def _data_bytes(extents: Extents) -> int:
    return extents.guest_bytes(ExtentKind.DATA, ExtentKind.COMPRESSED)


def as_input(layer: RemoteLayer) -> LayerInput:
    """What the hazards look at."""
    facts = layer.facts
    identity = (layer_id_of(layer.name) or layer.name, layer.stored.region, layer.info.etag, layer.info.size)
    if facts is None:
        return LayerInput(*identity)
    return LayerInput(
        *identity,
        version=facts.version,
        cluster_bits=facts.cluster_bits,
        virtual_size=facts.virtual_size,
        incompatible_features=facts.incompatible_features,
        compatible_features=facts.compatible_features,
        autoclear_features=facts.autoclear_features,
        extended_l2=facts.extended_l2,
        compression_type=facts.compression_type,
        refcount_bits=facts.refcount_bits,
        bitmaps=facts.bitmaps,
        snapshots=facts.snapshots,
    )
