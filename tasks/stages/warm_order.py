"""In which order a chain's slices are fetched: what an open reads, the last starts' trace, tables, then by heat."""

from collections.abc import Iterator, Sequence

import numpy as np

from tasks.cache.regional import SliceRef
from tasks.cache.slices import OPEN, TABLE, ChainLayer, Wanted
from tasks.cache.tables import LayerTables
from tasks.stages.warm_chain import LayerAt, WarmChain
from tasks.units import SLICE_BYTES


def opening(layers: Sequence[LayerAt]) -> Iterator[SliceRef]:
    """The first slice of every layer: its header, and most often its tables."""
    for layer in layers:
        yield SliceRef(layer.layer_id, layer.region, 0, layer.size_bytes)


def tables_of_open(layers: Sequence[LayerAt], tables: Sequence[LayerTables]) -> Iterator[SliceRef]:
    """All slices that opening the chain reads."""
    for layer, one in zip(layers, tables, strict=True):
        for start, length in one.open_ranges:
            for number in range(start // SLICE_BYTES, (start + length - 1) // SLICE_BYTES + 1):
                yield SliceRef(layer.layer_id, layer.region, number, layer.size_bytes)


def boot_first(chain: WarmChain) -> Iterator[SliceRef]:
    """The slices of the last starts that the chain still has. A layer that was merged away is not read any more."""
    by_id = {layer.layer_id: layer for layer in chain.layers}
    for layer_id, number in chain.boot:
        layer = by_id.get(layer_id)
        if layer is not None and number * SLICE_BYTES < layer.size_bytes:
            yield SliceRef(layer_id, layer.region, number, layer.size_bytes)


def by_heat(chain: WarmChain, run: Sequence[ChainLayer], wanted: Wanted) -> Iterator[SliceRef]:
    """A window's slices: open, tables, then data of the most read layers first."""
    heat = np.array([chain.heat.get(layer.layer_id, 0) for layer in run], np.int64)
    stage = np.where(wanted.why == OPEN, 0, np.where(wanted.why == TABLE, 1, 2))
    order = np.lexsort((wanted.number, wanted.layer, np.where(stage == 2, -heat[wanted.layer], 0), stage))
    for index in order.tolist():
        layer = run[int(wanted.layer[index])]
        yield SliceRef(layer.layer_id, layer.region, int(wanted.number[index]), layer.size_bytes)
