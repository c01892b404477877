"""Real ext4 chains for tests, small and made without privileges."""

import random
from pathlib import Path

from tasks.embedded.evolving import BLOCK, EvolvingDisk, new_disk
from tasks.units import KIB, MIB

PAGES = "/data/pages"
_PAGE_BLOCKS = 64


def make_chain(folder: Path, name: str, layers: int, *, size_bytes: int = 32 * MIB, seed: int = 1) -> EvolvingDisk:
    """A disk whose chain of `layers` layers (files `<name>-000.qcow2`, …) is in `folder`. Call `close()` when done.

    Each layer replaces a file, adds one, removes an old one and changes pages in place; about 0.1 s a layer.
    """
    rng = random.Random(seed)
    tree = folder / f"{name}-tree"
    (tree / "data").mkdir(parents=True)
    (tree / PAGES[1:]).write_bytes(rng.randbytes(_PAGE_BLOCKS * BLOCK))
    disk = new_disk(folder, name, size_bytes=size_bytes, seed=seed, tree=tree)
    while len(disk.layers) < layers:
        change(disk, rng)
    return disk


def change(disk: EvolvingDisk, rng: random.Random, *, trim: bool = False) -> Path:
    """One more layer; its file."""
    disk.generation += 1
    disk.write("/data/replaced", rng.randbytes(rng.randrange(64 * KIB, 512 * KIB)))
    disk.write(f"/data/new-{disk.generation}", rng.randbytes(rng.randrange(4 * KIB, 256 * KIB)))
    if f"/data/new-{disk.generation - 3}" in disk.files:
        disk.remove(f"/data/new-{disk.generation - 3}")
    for _ in range(4):
        disk.overwrite(PAGES, rng.randrange(_PAGE_BLOCKS), rng.randbytes(BLOCK))
    return disk.flush(trim=trim)
