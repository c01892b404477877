"""The largest images that the reader accepts, as sparse files: inside the stated memory and time."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tasks.chain import qcow2_reasons as why
from tasks.chain.qcow2_layout import Limits
from tasks.chain.qcow2_reader import MEMORY_BOUND_BYTES
from tasks.inventory.local import LayerMap, inspect_file
from tasks.units import GIB, MIB
from tests.support.limits import memory_limit
from tests.support.qcow2_bytes import COPIED, Image, be32, be64, build, patched

pytestmark = pytest.mark.slow


def read_bounded(path: Path, seconds: float) -> LayerMap:
    started = time.process_time()
    with memory_limit(MEMORY_BOUND_BYTES):
        found = inspect_file(path)
    assert time.process_time() - started < seconds
    return found


def write_sparse(path: Path, size: int, *parts: tuple[int, bytes]) -> None:
    with path.open("wb") as file:
        for at, body in parts:
            file.seek(at)
            file.write(body)
        file.truncate(size)


def test_the_largest_l1_table_with_every_l2_table_in_use(tmp_path: Path) -> None:
    """4 Mi tables of 64 entries: 2 GiB of L2, all zeros."""
    entries, cluster = (32 * MIB) // 8, 512
    l1_at, l2_at = 1 * MIB, 64 * MIB
    header = patched(
        build(Image({}, virtual_size=entries * 64 * 512))[:512],
        (36, be32(entries)),
        (40, be64(l1_at)),
        (48, be64(512)),
    )
    l1 = (np.arange(entries, dtype=np.uint64) * np.uint64(cluster) + np.uint64(l2_at)) | np.uint64(COPIED)
    path = tmp_path / "l1.qcow2"
    write_sparse(path, l2_at + entries * cluster, (0, header), (l1_at, l1.astype(">u8").tobytes()))
    found = read_bounded(path, 60)
    assert found.ok, found.facts
    assert (found.facts.l2_tables, len(found.extents)) == (entries, 0)


def test_scattered_clusters_all_over_the_largest_object(tmp_path: Path) -> None:
    """256 GiB in 512-byte clusters: the usage map has its full size, and is touched everywhere, twice."""
    limit = Limits().max_host_clusters
    per, tables = 64, 2048
    l1_at, l2_at = 1 * MIB, 2 * MIB
    image = build(Image({}, virtual_size=tables * per * 512))[:512]
    header = patched(image, (36, be32(tables)), (40, be64(l1_at)), (48, be64(512)))
    l1 = (np.arange(tables, dtype=np.uint64) * np.uint64(512) + np.uint64(l2_at)) | np.uint64(COPIED)
    number = np.arange(tables * per, dtype=np.uint64)
    host = (number + np.uint64(16384)) * np.uint64((limit - 20000) // (tables * per + 16384)) * np.uint64(512)
    host[::2] |= np.uint64(COPIED)
    host[1::2] |= np.uint64(1 << 62)
    path = tmp_path / "wide.qcow2"
    parts = ((0, header), (l1_at, l1.astype(">u8").tobytes()), (l2_at, host.astype(">u8").tobytes()))
    write_sparse(path, limit * 512, *parts)
    found = read_bounded(path, 30)
    assert found.ok, found.facts
    assert len(found.extents) == tables * per
    os.truncate(path, limit * 512 + 1)
    assert inspect_file(path).facts.reason == why.TOO_MANY_HOST_CLUSTERS


def ones(offset: int, length: int) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"\xff" * length)

    return spoil


@pytest.mark.parametrize("at", [1 * MIB, 20 * MIB])
def test_a_large_table_of_nonsense_is_refused_early(tmp_path: Path, at: int) -> None:
    header = patched(
        build(Image({}, virtual_size=GIB))[:512], (36, be32(4 * MIB)), (40, be64(1 * MIB)), (48, be64(512))
    )
    path = tmp_path / "nonsense.qcow2"
    write_sparse(path, 64 * MIB, (0, header))
    ones(at, 8 * MIB)(path)
    assert read_bounded(path, 10).facts.reason == why.RESERVED_BITS


def test_a_header_cluster_full_of_extensions(tmp_path: Path) -> None:
    """2 MiB of empty unknown extensions."""
    size = 2 * MIB
    image = bytearray(build(Image({}, virtual_size=size, cluster_bits=21)))
    image[112:size] = (be32(0x11111111) + be32(0)) * ((size - 112) // 8)
    path = tmp_path / "extensions.qcow2"
    path.write_bytes(bytes(image))
    assert read_bounded(path, 5).ok


def test_a_bitmap_directory_as_full_as_it_can_be(tmp_path: Path) -> None:
    count, size = 65535, 65536
    image = bytearray(build(Image({}, virtual_size=size, cluster_bits=16)))
    image[88:96] = be64(1)
    directory_at = len(image)
    first = directory_at + 64 * size
    entry = b"".join(
        be64(first + n * size) + be32(1) + be32(0) + b"\1\x10" + (8).to_bytes(2, "big") + be32(0) + b"%08d" % n
        for n in range(count)
    )
    extension = be32(0x23852875) + be32(24) + be32(count) + be32(0) + be64(len(entry)) + be64(directory_at)
    image[112 : 112 + len(extension)] = extension
    path = tmp_path / "bitmaps.qcow2"
    write_sparse(path, first + count * size, (0, bytes(image)), (directory_at, entry))
    found = read_bounded(path, 30)
    assert found.ok, found.facts
    assert found.facts.bitmaps == count
