"""The trees of a made-up fleet: parents, sizes, regions and heads' places, as arrays indexed by layer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.units import GIB

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

REGIONS = ("us-east", "eu-west", "ap-south", "us-west", "eu-north", "ap-east")
MAX_CHAIN = 1000


@dataclass(slots=True)
class Forest:
    """Arrays over layers (parents come before children within a tree) and over disks."""

    parent: Ints  # index of the layer below, -1 for a base
    is_base: Flags  # part of a golden image or blueprint
    disk: Ints  # owning disk, -1 for base layers
    position: Ints  # 0 = lowest layer of the disk's own part
    virtual_size: Ints
    region: Ints
    cluster_bits: Ints
    extended: Flags  # extended L2 entries: 32 sub-clusters
    hot_key: Ints  # layers with the same key write to the same hot zones
    disk_first: Ints  # lowest own layer of each disk
    disk_tip: Ints
    disk_length: Ints
    disk_region: Ints  # where its head lives
    base_tip: Ints  # of each golden image and blueprint
    base_region: Ints

    @property
    def count(self) -> int:
        """How many layers."""
        return len(self.parent)


def make_forest(layers: int, rng: np.random.Generator) -> Forest:
    """A forest of about `layers` layers (at least 40), numbered so that each tree is one stretch."""
    bases = _Bases.grow(max(3, layers // 2000), max(4, layers // 500), rng)
    return _numbered(_with_disks(bases, layers, rng))


@dataclass(slots=True)
class _Bases:
    parent: list[int]
    size: list[int]
    key: list[int]
    layer_region: list[int]
    tip: list[int]
    tip_size: list[int]
    region: list[int]

    @classmethod
    def grow(cls, golden: int, blueprints: int, rng: np.random.Generator) -> "_Bases":
        bases = cls([], [], [], [], [], [], [])
        sizes = np.array([2.25, 10, 20, 40]) * GIB
        for number in range(golden + blueprints):
            size = int(rng.choice(sizes, p=[0.3, 0.3, 0.2, 0.2]))
            if number < golden:
                bases.add(-1, int(rng.integers(1, 5)), size, number, int(rng.integers(0, len(REGIONS))))
                continue
            weight = 1.0 / (np.arange(len(bases.tip)) + 2.0)
            below = int(rng.choice(len(bases.tip), p=weight / weight.sum()))
            size = max(size, bases.tip_size[below])
            bases.add(bases.tip[below], int(rng.integers(1, 4)), size, number, bases.region[below])
        return bases

    def add(self, parent: int, length: int, size: int, key: int, region: int) -> None:
        for _ in range(length):
            self.parent.append(parent)
            parent = len(self.parent) - 1
        self.size += [size] * length
        self.key += [key] * length
        self.layer_region += [region] * length
        self.tip.append(parent)
        self.tip_size.append(size)
        self.region.append(region)


def _chain_lengths(total: int, rng: np.random.Generator) -> Ints:
    """Lognormal with a long tail; they sum to `total`."""
    most = total // 2 + 10
    length = np.minimum(MAX_CHAIN, np.ceil(rng.lognormal(1.2, 1.3, most))).astype(np.int64)
    tail = rng.random(most) < 0.003
    length[tail] = rng.integers(200, MAX_CHAIN + 1, int(tail.sum()))
    disks = int(np.searchsorted(np.cumsum(length), total)) + 1
    length = length[:disks]
    length[-1] -= length.sum() - total
    return length


def _with_disks(bases: _Bases, layers: int, rng: np.random.Generator) -> Forest:
    own = len(bases.parent)
    length = _chain_lengths(max(8, layers - own), rng)
    first = own + np.concatenate([[0], np.cumsum(length)[:-1]])
    disks, total = len(length), own + int(length.sum())
    below, size, region = _disk_roots(bases, first, length, rng)
    owner = np.repeat(np.arange(disks), length)
    position = np.arange(total - own) - np.repeat(first - own, length)
    parent = np.concatenate([np.array(bases.parent), np.arange(own, total) - 1])
    parent[first] = below
    layer_region, head_region = _moved(region, length, position, rng)
    bits = np.repeat(rng.choice([12, 16, 18, 21], disks, p=[0.005, 0.965, 0.02, 0.01]), length)
    extended = np.repeat(rng.random(disks) < 0.005, length) & (bits == 16)
    return Forest(
        parent=parent,
        is_base=np.arange(total) < own,
        disk=np.concatenate([np.full(own, -1), owner]),
        position=np.concatenate([np.zeros(own, np.int64), position]),
        virtual_size=np.concatenate([np.array(bases.size), _layer_sizes(size, length, rng)]),
        region=np.concatenate([np.array(bases.layer_region), layer_region]),
        cluster_bits=np.concatenate([np.full(own, 16), bits]),
        extended=np.concatenate([np.zeros(own, bool), extended]),
        hot_key=np.concatenate([np.array(bases.key) * 7919, owner * 104729 + 13]),
        disk_first=first,
        disk_tip=first + length - 1,
        disk_length=length,
        disk_region=head_region,
        base_tip=np.array(bases.tip),
        base_region=np.array(bases.region),
    )


def _disk_roots(bases: _Bases, first: Ints, length: Ints, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """What each disk stands on (84 % a base, 9 % nothing, 7 % inside an earlier disk), its size and first region."""
    disks = len(length)
    kind = rng.random(disks)
    weight = rng.permutation(1.0 / (np.arange(len(bases.tip)) + 2.0))
    base = rng.choice(len(bases.tip), disks, p=weight / weight.sum())
    on_base = kind < 0.84
    below = np.where(on_base, np.array(bases.tip)[base], -1)
    size = (
        rng.choice(np.array([10, 20, 40, 100, 200, 500, 1024]), disks, p=[0.15, 0.2, 0.25, 0.2, 0.1, 0.07, 0.03]) * GIB
    )
    size = np.where(on_base, np.maximum(size, np.array(bases.tip_size)[base]), size)
    size += np.where(rng.random(disks) < 0.03, rng.integers(1, 127, disks) * 512, 0)  # sizes that end inside a cluster
    region = np.where(
        on_base & (rng.random(disks) < 0.7), np.array(bases.region)[base], rng.integers(0, len(REGIONS), disks)
    )
    for disk in np.flatnonzero((kind >= 0.93) & (np.arange(disks) > 0)).tolist():
        other = int(rng.integers(0, disk))
        below[disk] = first[other] + int(rng.integers(0, length[other]))
        size[disk] = size[other]
    return below, size, region


def _layer_sizes(size: Ints, length: Ints, rng: np.random.Generator) -> Ints:
    sizes = np.repeat(size, length)
    shrunk = rng.random(len(sizes)) < 0.001  # smaller than the layer below
    sizes[shrunk] = (sizes[shrunk] // 4 * 3) >> 21 << 21
    return sizes


def _moved(region: Ints, length: Ints, position: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """3 % of the disks went to another region at some layer: the region of each layer, and of each head."""
    moves = rng.random(len(length)) < 0.03
    at = np.where(moves, (rng.random(len(length)) * length).astype(np.int64), np.int64(1) << 40)
    target = rng.integers(0, len(REGIONS), len(length))
    layer_region = np.where(position >= np.repeat(at, length), np.repeat(target, length), np.repeat(region, length))
    return layer_region, np.where(moves, target, region)


def _numbered(forest: Forest) -> Forest:
    """Renumber so that a tree's layers lie together, parents first."""
    root = np.where(forest.parent < 0, np.arange(forest.count), forest.parent)
    while True:
        above = root[root]
        if (above == root).all():
            break
        root = above
    order = np.lexsort((np.arange(forest.count), root))
    new = np.empty(forest.count, np.int64)
    new[order] = np.arange(forest.count)
    for name in (
        "parent",
        "is_base",
        "disk",
        "position",
        "virtual_size",
        "region",
        "cluster_bits",
        "extended",
        "hot_key",
    ):
        setattr(forest, name, getattr(forest, name)[order])
    forest.parent = np.where(forest.parent < 0, -1, new[np.maximum(forest.parent, 0)])
    forest.disk_first, forest.disk_tip = new[forest.disk_first], new[forest.disk_tip]
    forest.base_tip = new[forest.base_tip]
    return forest
