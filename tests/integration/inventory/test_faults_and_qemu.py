"""Single faults in images that QEMU made: each is refused by its name, and QEMU's own check does not pass it either."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.chain import qcow2_reasons as why
from tasks.inventory.local import LayerMap, inspect_file
from tasks.units import KIB, MIB
from tests.support import qemu_images
from tests.support.qcow2_bytes import COPIED, be32, be64

pytestmark = pytest.mark.qemu

L1_MASK = 0x00FFFFFFFFFFFE00


def make(path: Path, options: str, size: int, *commands: str, bitmaps: int = 0) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, str(size)], check=True)
    for number in range(bitmaps):
        subprocess.run(["qemu-img", "bitmap", "--add", "-g", "64k", path, f"b{number}"], check=True)
    if commands:
        words = [word for command in commands for word in ("-c", command)]
        subprocess.run(["qemu-io", "-f", "qcow2", *words, path], check=True, capture_output=True)
    return path


def number(path: Path, at: int, size: int = 8) -> int:
    with path.open("rb") as file:
        file.seek(at)
        return int.from_bytes(file.read(size), "big")


def patch(path: Path, *changes: tuple[int, bytes]) -> None:
    with path.open("r+b") as file:
        for at, body in changes:
            file.seek(at)
            file.write(body)


def first_l2(path: Path) -> int:
    return number(path, number(path, 40)) & L1_MASK


def check(path: Path) -> int:
    """Exit code of `qemu-img check`; 0 = clean, 3 = leaks only."""
    node = {"driver": "qcow2", "file": {"driver": "file", "filename": str(path)}, "backing": None}
    return subprocess.run(["qemu-img", "check", f"json:{json.dumps(node)}"], capture_output=True).returncode


def refused(path: Path) -> str | None:
    found = inspect_file(path)
    assert not found.ok, found.facts
    assert check(path) not in (0, 3)
    return found.facts.reason


EXTENDED_FAULTS = {
    "data and zero at once": (0, None, 1 | 1 << 32, why.SUBCLUSTER_BITMAP),
    "data without a cluster": (5, 0, 1, why.SUBCLUSTER_BITMAP),
    "data and zero without a cluster": (5, 0, 2 | 1 << 33, why.SUBCLUSTER_BITMAP),
    "a bitmap beside compressed data": (5, 1 << 62, 1, why.SUBCLUSTER_BITMAP),
}


@pytest.mark.parametrize("cluster_size", [16 * KIB, 2 * MIB])
@pytest.mark.parametrize("name", EXTENDED_FAULTS)
def test_sub_cluster_bitmaps_that_contradict(name: str, cluster_size: int, tmp_path: Path) -> None:
    entry, word, bitmap, reason = EXTENDED_FAULTS[name]
    path = make(tmp_path / "x", f"extended_l2=on,cluster_size={cluster_size}", 16 * MIB, "write 0 2k")
    at = first_l2(path) + 16 * entry
    patch(path, (at, be64(number(path, at) if word is None else word) + be64(bitmap)))
    assert inspect_file(path).facts.reason == reason
    assert not qemu_accepts(path)


def test_the_zero_flag_of_standard_entries_has_two_meanings(tmp_path: Path) -> None:
    """Reserved beside sub-clusters. QEMU 7.2 passes over it, a reader of standard entries sees zeros: refused."""
    path = make(tmp_path / "x", "extended_l2=on,cluster_size=16k", 16 * MIB, "write 0 2k")
    patch(path, (first_l2(path) + 16 * 5, be64(1)))
    assert inspect_file(path).facts.reason == why.RESERVED_BITS


def qemu_accepts(path: Path) -> bool:
    """Clean by its check, and the whole disk is readable."""
    if check(path) not in (0, 3):
        return False
    return (
        "error"
        not in subprocess.run(
            ["qemu-io", "-r", "-f", "qcow2", "-c", "read 0 16M", path], capture_output=True, text=True
        ).stdout.lower()
    )


def extension(path: Path) -> int:
    """The body of the bitmaps extension."""
    return path.read_bytes()[: 64 * KIB].index(be32(0x23852875)) + 8


def directory(path: Path) -> int:
    """Where the bitmap directory is: the last field of the extension."""
    return number(path, extension(path) + 16)


BITMAP_FAULTS: dict[str, tuple[Callable[[Path], int], int, bytes, str]] = {
    "more bitmaps than entries": (extension, 0, be32(3), why.BITMAP_DIRECTORY),
    "fewer bitmaps than entries": (extension, 0, be32(1), why.BITMAP_DIRECTORY),
    "directory beyond the object": (extension, 16, be64(1 << 40), why.BITMAP_DIRECTORY),
    "directory of no bytes": (extension, 8, be64(0), why.BITMAP_DIRECTORY),
    "directory unaligned": (extension, 16, be64(4096 + 512), why.EXTENSION_INVALID),
    "table unaligned": (directory, 0, be64(65536 + 8), why.BITMAP_DIRECTORY),
    "table beyond the object": (directory, 0, be64(1 << 40), why.BITMAP_DIRECTORY),
    "table of other length": (directory, 8, be32(9), why.BITMAP_DIRECTORY),
    "unknown flag": (directory, 12, be32(8), why.BITMAP_DIRECTORY),
    "unknown type": (directory, 16, b"\2", why.BITMAP_DIRECTORY),
    "granularity": (directory, 17, b"\x3f", why.BITMAP_DIRECTORY),
    "no name": (directory, 18, b"\0\0", why.BITMAP_DIRECTORY),
    "name beyond the directory": (directory, 18, b"\3\xff", why.BITMAP_DIRECTORY),
    "two of one name": (directory, 24, b"b1", why.BITMAP_DIRECTORY),
}


@pytest.mark.parametrize("name", BITMAP_FAULTS)
def test_bitmap_directories_that_qemu_does_not_open(name: str, tmp_path: Path) -> None:
    place, offset, body, reason = BITMAP_FAULTS[name]
    path = make(tmp_path / "x", "cluster_size=4k", 16 * MIB, "write 0 64k", bitmaps=2)
    patch(path, (place(path) + offset, body))
    assert refused(path) == reason


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (1 << 60, why.BITMAP_TABLE),
        (1 << 40, why.BITMAP_TABLE),
        (4096 + 512, why.BITMAP_TABLE),
        (8192 | 1, why.BITMAP_TABLE),
        (None, why.OVERLAP),  # the L2 table
    ],
)
def test_bitmap_table_entries(entry: int | None, reason: str, tmp_path: Path) -> None:
    path = make(tmp_path / "x", "cluster_size=4k", 16 * MIB, "write 0 64k", bitmaps=1)
    table = number(path, directory(path))
    patch(path, (table, be64(first_l2(path) if entry is None else entry)))
    assert refused(path) == reason


def beyond(path: Path) -> Path:
    """8 MiB with data at 0 and at 6 MiB, cut to 1 MiB in the header alone: L1 is larger than needed and in use."""
    make(path, "cluster_size=512", 8 * MIB, "write -P 1 0 64k", "write -P 2 6M 64k")
    patch(path, (24, be64(MIB)))
    return path


def like_qemu(path: Path) -> LayerMap:
    found = inspect_file(path)
    assert found.ok, found.facts
    assert qemu_images.ranges_of(found.extents) == qemu_images.own_map(path)
    return found


def test_an_l1_table_larger_than_needed_is_what_qemu_leaves_behind(tmp_path: Path) -> None:
    path = make(tmp_path / "x", "cluster_size=512", 8 * MIB, "write 0 64k", "write 6M 64k")
    subprocess.run(["qemu-img", "resize", "-q", "--shrink", path, "1M"], check=True)
    facts = like_qemu(path).facts
    assert facts.l1_entries * 64 * 512 > facts.virtual_size
    assert check(path) == 0


def test_data_beyond_the_virtual_size_is_no_extent_but_nobody_elses_either(tmp_path: Path) -> None:
    path = beyond(tmp_path / "x")
    assert int(like_qemu(path).extents.end[-1]) <= MIB
    assert check(path) == 0
    hidden_l1 = number(path, 40) + 8 * (6 * MIB // (64 * 512))
    hidden_l2 = number(path, hidden_l1) & L1_MASK
    patch(path, (hidden_l2, be64(number(path, first_l2(path)))))
    assert refused(path) == why.OVERLAP


def test_the_largest_l1_table_of_qemu_is_the_largest_of_ours(tmp_path: Path) -> None:
    path = beyond(tmp_path / "x")
    size = path.stat().st_size // 512 * 512
    table = path.read_bytes()[number(path, 40) :][: 8 * number(path, 36, 4)]
    with path.open("r+b") as file:
        file.truncate(size + 32 * MIB)
    patch(path, (size, table), (36, be32(32 * MIB // 8)), (40, be64(size)))
    like_qemu(path)
    patch(path, (36, be32(32 * MIB // 8 + 1)))
    assert refused(path) == why.L1_TOO_LARGE
    patch(path, (36, be32(32 * MIB // 8)), (40, be64(size + 512)))
    assert inspect_file(path).facts.reason == why.L1_OUTSIDE


@pytest.mark.parametrize("options", ["cluster_size=512", "cluster_size=2M", "compression_type=zstd", "compat=0.10"])
def test_two_l1_entries_with_one_l2_table(options: str, tmp_path: Path) -> None:
    size = 3 << 40 if "2M" in options else 3 << 30
    path = make(tmp_path / "x", options, size, "write 0 512")
    l1 = number(path, 40)
    patch(path, (l1 + 8, be64(first_l2(path) | COPIED)))
    assert refused(path) == why.OVERLAP


@pytest.mark.parametrize("size", [(1 << 63) - 512, 1 << 63, (1 << 64) - 512, (1 << 63) - 1])
def test_sizes_about_2_to_the_63(size: int, tmp_path: Path) -> None:
    path = make(tmp_path / "x", "cluster_size=2M", MIB, "write 0 512")
    patch(path, (24, be64(size)))
    assert refused(path) == why.VIRTUAL_SIZE


@pytest.mark.parametrize("type_", ["zlib", "zstd"])
@pytest.mark.parametrize("cluster_size", [512, 64 * KIB, 2 * MIB])
def test_compressed_data_past_the_end(type_: str, cluster_size: int, tmp_path: Path) -> None:
    options = f"cluster_size={cluster_size},compression_type={type_}"
    path = make(tmp_path / "x", options, 8 * MIB, f"write -c -P 7 0 {cluster_size}")
    like_qemu(path)
    at = first_l2(path)
    bits = cluster_size.bit_length() - 1
    far = (1 << 62) | (-(-path.stat().st_size // 512) * 512 & ((1 << 62 - (bits - 8)) - 1))
    patch(path, (at, be64(far)))
    assert inspect_file(path).facts.reason == why.COMPRESSED_OUTSIDE
    assert not qemu_accepts(path)
