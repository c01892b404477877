"""Random forests of real images: mixed sizes, cluster sizes, versions and writes, with forks and interior heads."""

import random
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.support.chains import Chain, LayerSpec, Op, add_layer, guest_sha256

KIB, MIB = 1 << 10, 1 << 20
CLUSTERS = (4 * KIB, 16 * KIB, 64 * KIB, 64 * KIB, 64 * KIB, 512 * KIB, 2 * MIB)


@dataclass(slots=True)
class Tree:
    """One disk's chain and whatever shares its layers."""

    disks: dict[str, Chain] = field(default_factory=dict)
    snapshots: dict[str, str] = field(default_factory=dict)  # snapshot head -> layer
    sha256: dict[str, str] = field(default_factory=dict)  # head -> content, by QEMU's own reading

    @property
    def heads(self) -> dict[str, str]:
        """Tip of every head."""
        return {name: chain.tip for name, chain in self.disks.items()} | self.snapshots


def make_tree(folder: Path, name: str, rng: random.Random) -> Tree:
    """A chain of 3 to 8 layers; sometimes a second disk or a snapshot on an interior layer."""
    folder.mkdir(parents=True)
    style = _style(rng)
    chain = Chain(folder)
    tree = Tree({name: chain})
    for _ in range(rng.randrange(3, 9)):
        add_layer(chain, _layer(rng, style))
    if rng.random() < 0.3:
        twin = Chain(folder, chain.layers[: rng.randrange(1, len(chain.layers))])
        for _ in range(rng.randrange(1, 4)):
            add_layer(twin, _layer(rng, style))
        tree.disks[f"{name}-twin"] = twin
    if rng.random() < 0.2:
        tree.snapshots[f"{name}-snap"] = rng.choice(chain.layers[:-1])
    tree.sha256 = {head: guest_sha256(chain.path(tip)) for head, tip in tree.heads.items()}
    return tree


@dataclass(frozen=True, slots=True)
class _Style:
    """What the layers of one tree have in common; `mixed` ones differ from layer to layer."""

    spec: LayerSpec
    mixed: bool
    resized: bool
    squeezed: bool
    bitmaps: bool


def _style(rng: random.Random) -> _Style:
    size = rng.randrange(1 * MIB, 5 * MIB) // 512 * 512 if rng.random() < 0.6 else rng.randrange(1, 5) * MIB
    spec = LayerSpec(
        size=size,
        cluster_size=rng.choice(CLUSTERS),
        version=2 if rng.random() < 0.15 else 3,
        compression="zstd" if rng.random() < 0.1 else "zlib",
        lazy_refcounts=rng.random() < 0.1,
    )
    spec = replace(spec, extended_l2=spec.version == 3 and spec.cluster_size >= 16 * KIB and rng.random() < 0.15)
    if spec.version == 2:
        spec = replace(spec, compression="zlib", lazy_refcounts=False)
    return _Style(spec, rng.random() < 0.25, rng.random() < 0.4, rng.random() < 0.3, rng.random() < 0.1)


def _layer(rng: random.Random, style: _Style) -> LayerSpec:
    spec = _style(rng).spec if style.mixed and rng.random() < 0.5 else style.spec
    if style.resized and rng.random() < 0.4:
        factor = rng.choice([0.4, 0.7, 1.0, 1.3, 1.7])
        spec = replace(spec, size=max(512, int(spec.size * factor) // 512 * 512))
    elif style.mixed:
        spec = replace(spec, size=style.spec.size)
    if style.bitmaps and spec.version == 3 and rng.random() < 0.3:
        spec = replace(spec, bitmap="b0")
    return replace(spec, writes=_writes(rng, spec, squeezed=style.squeezed))


def _writes(rng: random.Random, spec: LayerSpec, *, squeezed: bool) -> tuple[tuple[Op, int, int, int], ...]:
    ops: list[tuple[Op, int, int, int]] = []
    if squeezed and spec.size >= spec.cluster_size:  # first, and each cluster once: QEMU compresses into nothing else
        clusters = range(spec.size // spec.cluster_size)
        chosen = rng.sample(clusters, min(len(clusters), rng.randrange(0, 6)))
        ops += [("compressed", n * spec.cluster_size, spec.cluster_size, rng.randrange(1, 6)) for n in chosen]
    for _ in range(rng.randrange(0, 6)):
        op: Op = rng.choice(["write", "write", "write", "zero", "zero_unmap", "discard"])
        length = min(rng.randrange(1, 2 + 4 * max(spec.cluster_size, 64 * KIB) // 512) * 512, spec.size)
        offset = rng.randrange((spec.size - length) // 512 + 1) * 512
        if rng.random() < 0.3:
            offset = offset // spec.cluster_size * spec.cluster_size
        ops.append((op, offset, length, rng.randrange(1, 6)))
    return tuple(ops)
