"""The reader against QEMU on images that QEMU made: the same map, the same facts, nothing refused."""

import random
from pathlib import Path

import pytest

from tasks.chain import qcow2_reasons as why
from tasks.inventory.local import LayerMap, inspect_file
from tasks.units import GIB, KIB, MIB
from tests.support import qemu_images
from tests.support.qemu_images import Recipe

pytestmark = pytest.mark.qemu

SAMPLE = 120  # of the random images, in every run; tests/hostile/reader has thousands


def assert_like_qemu(path: Path) -> LayerMap:
    found = inspect_file(path)
    if found.facts.reason in (why.CORRUPT, why.OVERLAP):
        qemu_images.assert_qemu_spoilt_it(path, found.facts.reason)
        return found
    assert found.ok, found.facts
    assert qemu_images.ranges_of(found.extents) == qemu_images.own_map(path)
    assert qemu_images.facts_as_info(found.facts) == qemu_images.info_as_facts(qemu_images.info(path))
    return found


@pytest.mark.parametrize("seed", range(SAMPLE // 10))
def test_random_images(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(10):
        recipe = qemu_images.random_recipe(rng)
        path = qemu_images.make(recipe, tmp_path, f"{number}.qcow2")
        try:
            assert_like_qemu(path)
        except AssertionError as error:
            raise AssertionError(f"{recipe}: {error}") from error


WRITES = ("write 0 1M", "write -z 2M 1M", "write -z -u 4M 64k", "discard 0 64k", "write -c 8M 2M", "write 63M 4096")

CORNERS = [
    pytest.param(Recipe(), id="nothing written"),
    pytest.param(Recipe(size=0), id="empty disk"),
    pytest.param(Recipe(size=512, commands=("write 0 512",)), id="one sector"),
    *[
        pytest.param(Recipe(cluster_size=size, commands=WRITES), id=f"clusters of {size}")
        for size in (512, 4096, 2 * MIB)
    ],
    pytest.param(Recipe(version=2, commands=WRITES), id="v2"),
    pytest.param(Recipe(extended_l2=True, commands=WRITES), id="sub-clusters"),
    pytest.param(Recipe(extended_l2=True, cluster_size=16 * KIB, commands=WRITES), id="smallest sub-clusters"),
    pytest.param(Recipe(extended_l2=True, cluster_size=2 * MIB, commands=WRITES), id="largest sub-clusters"),
    pytest.param(Recipe(preallocation="metadata"), id="metadata preallocated"),
    pytest.param(Recipe(preallocation="falloc", commands=WRITES), id="falloc"),
    pytest.param(Recipe(preallocation="full", size=8 * MIB), id="full"),
    pytest.param(Recipe(compression="zstd", commands=WRITES), id="zstd"),
    pytest.param(Recipe(refcount_bits=1, commands=WRITES), id="refcounts of a bit"),
    pytest.param(Recipe(refcount_bits=64, commands=WRITES), id="refcounts of 64 bits"),
    pytest.param(Recipe(lazy_refcounts=True, commands=WRITES), id="lazy refcounts"),
    pytest.param(Recipe(bitmaps=3, commands=WRITES), id="bitmaps"),
    pytest.param(Recipe(resize=(16 * MIB,), commands=WRITES), id="shrunk"),
    pytest.param(Recipe(resize=(16 * MIB, 64 * GIB), commands=WRITES), id="shrunk and grown"),
    pytest.param(Recipe(backing=True, commands=WRITES), id="with a backing file"),
    pytest.param(Recipe(size=10 << 40, commands=("write 9T 64k", "write -z 5T 1G")), id="10 TiB"),
    pytest.param(Recipe(cluster_size=512, size=128 * GIB, commands=("write 127G 1M",)), id="largest L1 of QEMU"),
]


@pytest.mark.parametrize("recipe", CORNERS)
def test_corner(tmp_path: Path, recipe: Recipe) -> None:
    assert_like_qemu(qemu_images.make(recipe, tmp_path))
