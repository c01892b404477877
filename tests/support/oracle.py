"""Brute force: for each head a bitmap of sectors, walked layer by layer. Slow and obvious; for tests only."""

from collections import defaultdict

import numpy as np

from tests.support.forests import COMPRESSED, DATA, SECTOR, Forest

KIND = {DATA: 0, 1: 1, 2: 1, COMPRESSED: 2}
STORED = 3


def chain_of(forest: Forest, tip: int) -> list[int] | None:
    """Indices from the tip down; None if it never ends. A missing parent ends it."""
    chain, seen, at = [], set(), tip
    while at is not None and at >= 0:
        if at in seen:
            return None
        seen.add(at)
        chain.append(at)
        at = forest.layers[at].parent
    return chain


def _readable(layer) -> bool:
    return layer.status == "ok"


def _sectors(layer, extent) -> slice:
    start, length, _, _ = extent
    end = min(start + length, layer.size)
    assert start % SECTOR == 0
    assert end % SECTOR == 0
    return slice(start // SECTOR, max(end, start) // SECTOR)


def allocated(forest: Forest) -> dict[int, list[int]]:
    """Bytes by kind (data, zero, compressed, stored) of each layer whose chain ends."""
    result = {}
    for index, layer in enumerate(forest.layers):
        if chain_of(forest, index) is None:
            continue
        sums = [0, 0, 0, 0]
        for extent in layer.extents if _readable(layer) else ():
            part = _sectors(layer, extent)
            count = (part.stop - part.start) * SECTOR
            sums[KIND[extent[2]]] += count
            if extent[2] == COMPRESSED and count:
                sums[STORED] += extent[3]
        result[index] = sums
    return result


def visible_bits(forest: Forest, tip: int) -> dict[tuple[int, int], np.ndarray]:
    """(layer, extent number) -> which of the extent's sectors the head sees."""
    chain = chain_of(forest, tip)
    if chain is None:
        return {}
    space = max((e[0] + e[1] for layer in forest.layers for e in layer.extents), default=0) // SECTOR + 1
    open_sectors = np.ones(space, bool)
    result = {}
    for index in chain:
        layer = forest.layers[index]
        if not _readable(layer):
            continue
        open_sectors[layer.size // SECTOR :] = False
        for number, extent in enumerate(layer.extents):
            result[index, number] = open_sectors[_sectors(layer, extent)].copy()
        for extent in layer.extents:
            open_sectors[_sectors(layer, extent)] = False
    return result


def summed(forest: Forest, bits: dict[tuple[int, int], np.ndarray]) -> dict[int, list[int]]:
    """Visible bytes by kind of each layer that `bits` names."""
    result: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for (index, number), shown in bits.items():
        extent = forest.layers[index].extents[number]
        result[index][KIND[extent[2]]] += int(shown.sum()) * SECTOR
        if extent[2] == COMPRESSED and shown.any():
            result[index][STORED] += extent[3]
    return result


def visible(forest: Forest) -> dict[int, list[int]]:
    """Visible from at least one head, by layer."""
    union: dict[tuple[int, int], np.ndarray] = {}
    for tip in set(forest.heads):
        for key, shown in visible_bits(forest, tip).items():
            union[key] = union[key] | shown if key in union else shown
    return summed(forest, union)


def live(forest: Forest) -> set[int]:
    """Layers in the chain of a head that ends."""
    return {index for tip in forest.heads for index in chain_of(forest, tip) or ()}
