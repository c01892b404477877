"""The reader on images made byte by byte: what is accepted, what is refused and by which code."""

import dataclasses

import numpy as np
import pytest

from tasks.chain import qcow2_reasons as why
from tasks.chain.extent import Extents, concat
from tasks.chain.layer import ExtentKind, LayerFacts
from tasks.chain.qcow2_layout import Limits
from tasks.chain.qcow2_names import NameRules
from tasks.chain.qcow2_reader import Qcow2Reader
from tests.support.qcow2_bytes import COPIED, DATA, ZERO, ZERO_ALLOCATED, Image, be32, be64, build, patched

SMALL = Image({0: DATA, 1: DATA, 2: ZERO, 3: ZERO_ALLOCATED, 70: DATA}, virtual_size=64 << 10)
# Places in the image of SMALL: 512-byte clusters; header, refcount table, refcount block, L1, L2, data …
REFTABLE, L1, L2 = 512, 1536, 2048


def read(
    image: bytes, rules: NameRules | None = None, limits: Limits | None = None, size: int | None = None
) -> tuple[LayerFacts, Extents]:
    reader = Qcow2Reader(len(image) if size is None else size, rules, limits)
    parts = []
    while reader.wants:
        parts += reader.feed([image[want.start : want.end] for want in reader.wants])
    return reader.facts, concat(parts)


def reason(image: bytes, rules: NameRules | None = None, limits: Limits | None = None) -> str | None:
    facts, _extents = read(image, rules, limits)
    assert (facts.status == "refused") == (facts.reason is not None) == (facts.detail is not None)
    return facts.reason


def test_extents_are_maximal_runs_with_their_places() -> None:
    facts, extents = read(build(SMALL))
    assert facts.status == "ok"
    assert list(extents.rows()) == [
        (0, 1024, ExtentKind.DATA, 2560, 1024),
        (1024, 512, ExtentKind.ZERO, -1, 0),
        (1536, 512, ExtentKind.ZERO_ALLOCATED, 3584, 512),
        (70 * 512, 512, ExtentKind.DATA, 4608, 512),
    ]


def test_facts_of_the_header() -> None:
    facts, _ = read(build(dataclasses.replace(SMALL, backing="a.qcow2")))
    assert (facts.version, facts.cluster_size, facts.virtual_size) == (3, 512, 64 << 10)
    assert (facts.backing_file, facts.backing_format) == ("a.qcow2", "qcow2")
    assert (facts.l1_entries, facts.l2_tables, facts.metadata_bytes) == (2, 2, 512 + 16 + 1024)
    assert (facts.refcount_bits, facts.bitmaps, facts.snapshots) == (16, 0, 0)


def test_runs_go_on_across_tables() -> None:
    every = dict.fromkeys(range(200), ZERO)
    _, extents = read(build(Image(every, virtual_size=200 * 512)))
    assert list(extents.rows()) == [(0, 200 * 512, ExtentKind.ZERO, -1, 0)]


def test_last_cluster_is_cut_at_the_virtual_size() -> None:
    image = build(Image({1: DATA}, virtual_size=4096, cluster_bits=12))
    larger = patched(image, (24, be64(4096 + 512)), (24 + 0, be64(4096 + 512)))
    _, extents = read(larger)
    assert next(iter(extents.rows()))[:2] == (4096, 512)


def test_last_cluster_may_be_stored_short() -> None:
    image = build(Image({0: DATA}, virtual_size=4096, cluster_bits=12))
    facts, extents = read(image[:-100])
    assert facts.status == "ok"
    assert extents.host_length.tolist() == [4096 - 100]
    assert extents.length.tolist() == [4096]


def test_an_l1_table_larger_than_needed_is_accepted_as_qemu_does() -> None:
    facts, extents = read(patched(build(SMALL), (36, be32(3))))
    assert facts.status == "ok"
    assert len(extents) == 4


def test_entries_past_the_virtual_size_are_checked_but_are_no_extents() -> None:
    facts, extents = read(patched(build(SMALL), (24, be64(1024)), (36, be32(2))))
    assert facts.status == "ok"
    assert list(extents.rows()) == [(0, 1024, ExtentKind.DATA, 2560, 1024)]


def test_empty_disk() -> None:
    facts, extents = read(build(Image({}, virtual_size=0)))
    assert (facts.status, len(extents)) == ("ok", 0)


def test_unknown_extensions_and_compatible_bits_are_accepted() -> None:
    image = patched(build(SMALL), (112, be32(0x12345678) + be32(5) + b"hello\0\0\0" + bytes(8)), (80, be64(1 << 40)))
    facts, _ = read(image)
    assert facts.status == "ok"
    assert facts.compatible_features == 1 << 40


def test_void_bitmaps_are_no_bitmaps() -> None:
    extension = be32(0x23852875) + be32(24) + be32(1) + be32(0) + be64(64) + be64(1 << 40)
    facts, _ = read(patched(build(SMALL), (112, extension)))
    assert (facts.status, facts.bitmaps) == ("ok", 0)


HEADER_FAULTS = [
    ("magic", 0, b"QFIx", why.BAD_MAGIC),
    ("version 1", 4, be32(1), why.BAD_VERSION),
    ("version 4", 4, be32(4), why.BAD_VERSION),
    ("cluster_bits 8", 20, be32(8), why.CLUSTER_BITS),
    ("cluster_bits 22", 20, be32(22), why.CLUSTER_BITS),
    ("cluster_bits huge", 20, be32(0xFFFFFFFF), why.CLUSTER_BITS),
    ("virtual size odd", 24, be64(1000), why.VIRTUAL_SIZE),
    ("virtual size beyond the bound", 24, be64(1 << 51), why.VIRTUAL_SIZE),
    ("virtual size negative", 24, be64((1 << 64) - 512), why.VIRTUAL_SIZE),
    ("AES", 32, be32(1), why.ENCRYPTED),
    ("LUKS", 32, be32(2), why.ENCRYPTED),
    ("L1 too small", 36, be32(1), why.L1_TOO_SMALL),
    ("L1 too large", 36, be32(1 << 23), why.L1_TOO_LARGE),
    ("L1 beyond the object", 36, be32(1000), why.L1_OUTSIDE),
    ("L1 unaligned", 40, be64(L1 + 8), why.L1_UNALIGNED),
    ("L1 far away", 40, be64(1 << 62), why.L1_OUTSIDE),
    ("L1 on the header", 40, be64(0), why.OVERLAP),
    ("L1 on the refcount table", 40, be64(REFTABLE), why.OVERLAP),
    ("refcount table unaligned", 48, be64(REFTABLE + 1), why.REFTABLE_UNALIGNED),
    ("refcount table far away", 48, be64(1 << 40), why.REFTABLE_OUTSIDE),
    ("no refcount table", 56, be32(0), why.REFTABLE_MISSING),
    ("refcount table huge", 56, be32(1 << 20), why.REFTABLE_TOO_LARGE),
    ("snapshots", 60, be32(1), why.INTERNAL_SNAPSHOTS),
    ("snapshot table unaligned", 64, be64(8), why.SNAPSHOT_TABLE),
    ("dirty", 72, be64(1), why.DIRTY),
    ("corrupt", 72, be64(2), why.CORRUPT),
    ("data file", 72, be64(4), why.DATA_FILE),
    ("raw data file", 88, be64(2), why.DATA_FILE),
    ("zstd bit without the type", 72, be64(8), why.COMPRESSION_TYPE),
    ("type without the bit", 104, b"\1", why.COMPRESSION_TYPE),
    ("sub-clusters of 16 bytes", 72, be64(16), why.SUBCLUSTER_SIZE),
    ("unknown bit", 72, be64(1 << 5), why.UNKNOWN_INCOMPATIBLE),
    ("unknown high bit", 72, be64(1 << 63), why.UNKNOWN_INCOMPATIBLE),
    ("refcount order", 96, be32(7), why.REFCOUNT_ORDER),
    ("header length short", 100, be32(96), why.BAD_HEADER_LENGTH),
    ("header length odd", 100, be32(109), why.BAD_HEADER_LENGTH),
    ("header length beyond the cluster", 100, be32(520), why.BAD_HEADER_LENGTH),
    ("extension overrun", 112, be32(7) + be32(500), why.EXTENSION_OVERRUN),
    ("extension huge", 112, be32(7) + be32(0xFFFFFFF8), why.EXTENSION_OVERRUN),
    ("data file extension", 112, be32(0x44415441) + be32(4) + b"/etc", why.DATA_FILE),
    ("crypto extension", 112, be32(0x0537BE77) + be32(16), why.ENCRYPTED),
    ("bitmaps extension short", 112, be32(0x23852875) + be32(8), why.EXTENSION_INVALID),
    ("format name long", 112, be32(0xE2792ACA) + be32(16), why.EXTENSION_INVALID),
]


@pytest.mark.parametrize(
    ("offset", "new", "expected"), [f[1:] for f in HEADER_FAULTS], ids=[f[0] for f in HEADER_FAULTS]
)
def test_header_fault_is_refused_by_its_code(offset: int, new: bytes, expected: str) -> None:
    assert reason(patched(build(SMALL), (offset, new))) == expected


TABLE_FAULTS = [
    ("L2 unaligned", L1, be64(COPIED | 2048 + 512 + 256), why.RESERVED_BITS),
    ("L1 reserved bit", L1, be64(COPIED | 1 << 60 | L2), why.RESERVED_BITS),
    ("L2 beyond the object", L1, be64(COPIED | 1 << 40), why.L2_OUTSIDE),
    ("L2 shared", L1 + 8, be64(COPIED | L2), why.OVERLAP),
    ("L2 on L1", L1, be64(COPIED | L1), why.OVERLAP),
    ("L2 on a refcount block", L1, be64(COPIED | 1024), why.OVERLAP),
    ("refcount block reserved bit", REFTABLE, be64(1024 | 1), why.RESERVED_BITS),
    ("refcount block far away", REFTABLE, be64(1 << 40), why.REFBLOCK_OUTSIDE),
    ("refcount block on the header", REFTABLE + 8, be64(512), why.OVERLAP),
    ("entry reserved bit 1", L2 + 32, be64(2), why.RESERVED_BITS),
    ("entry reserved bit 56", L2 + 32, be64(1 << 56), why.RESERVED_BITS),
    ("cluster beyond the object", L2 + 32, be64(COPIED | 1 << 40), why.CLUSTER_OUTSIDE),
    ("cluster on the header's table", L2 + 32, be64(COPIED | 512), why.OVERLAP),
    ("cluster on its own L2", L2 + 32, be64(COPIED | L2), why.OVERLAP),
    ("cluster used twice", L2 + 8, be64(COPIED | 2560), why.OVERLAP),
    ("compressed past the end", L2 + 32, be64(1 << 62 | 1 << 30), why.COMPRESSED_OUTSIDE),
    ("compressed sectors past the end", L2 + 32, be64(1 << 62 | 1 << 61 | 4608 + 500), why.COMPRESSED_OUTSIDE),
    ("compressed copied", L2 + 32, be64(COPIED | 1 << 62 | 4608), why.COMPRESSED_COPIED),
    ("compressed on data", L2 + 32, be64(1 << 62 | 4608 + 9), why.OVERLAP),
]


@pytest.mark.parametrize(("offset", "new", "expected"), [f[1:] for f in TABLE_FAULTS], ids=[f[0] for f in TABLE_FAULTS])
def test_table_fault_is_refused_by_its_code(offset: int, new: bytes, expected: str) -> None:
    assert reason(patched(build(SMALL), (offset, new))) == expected


def test_unaligned_offsets_in_larger_clusters() -> None:
    image = build(Image({0: DATA}, virtual_size=64 << 10, cluster_bits=12))
    l1 = 3 * 4096
    assert reason(patched(image, (l1, be64(COPIED | 4 * 4096 + 512)))) == why.L2_UNALIGNED
    assert reason(patched(image, (4 * 4096, be64(COPIED | 5 * 4096 + 512)))) == why.CLUSTER_UNALIGNED
    assert reason(patched(image, (4096, be64(2 * 4096 + 512)))) == why.REFBLOCK_UNALIGNED


def test_zero_flag_in_v2_is_refused() -> None:
    image = bytearray(build(SMALL))
    image[4:8] = be32(2)
    image[72:144] = bytes(72)
    assert reason(bytes(image)) == why.ZERO_FLAG_V2


def test_truncated_tables_are_refused() -> None:
    image = build(Image({0: ZERO}, virtual_size=64 << 10, cluster_bits=12))
    assert reason(image[:-1]) == why.L2_OUTSIDE
    assert reason(image[: 3 * 4096]) == why.L1_OUTSIDE


@pytest.mark.parametrize("length", [0, 1, 4, 7, 8, 71, 72, 103, 104, 111, 112, 500])
def test_any_prefix_is_refused(length: int) -> None:
    assert reason(build(SMALL)[:length]) is not None


def test_an_object_that_shrank_is_refused() -> None:
    image = build(SMALL)
    facts, _ = read(image[:-600], size=len(image))
    assert facts.reason == why.SHORT_READ


BACKING_NAMES = [
    ("/etc/passwd", why.BACKING_ABSOLUTE),
    ("../a.qcow2", why.BACKING_DOTDOT),
    ("a/../../b", why.BACKING_DOTDOT),
    ("..", why.BACKING_DOTDOT),
    ("a/b.qcow2", why.BACKING_PATH),
    ("layers/../x", why.BACKING_DOTDOT),
    ("json:{}", why.BACKING_JSON),
    ("nbd://127.0.0.1/x", why.BACKING_PROTOCOL),
    ("nbd:unix:/run/x", why.BACKING_PROTOCOL),
    ("fat:rw", why.BACKING_PROTOCOL),
    ("a\0b", why.BACKING_ENCODING),
    ("a\nb", why.BACKING_ENCODING),
    ("self.qcow2", why.BACKING_SELF),
]


@pytest.mark.parametrize(("name", "expected"), BACKING_NAMES)
def test_backing_name_is_refused(name: str, expected: str) -> None:
    image = build(dataclasses.replace(SMALL, backing=name))
    assert reason(image, NameRules(own_name="self.qcow2")) == expected


def test_backing_name_that_is_not_utf8() -> None:
    image = build(dataclasses.replace(SMALL, backing="abcd"))
    at = image.index(b"abcd")
    assert reason(patched(image, (at, b"\xff\xfe"))) == why.BACKING_ENCODING


def test_backing_name_lengths() -> None:
    image = Image({}, virtual_size=4096, cluster_bits=12, backing="x" * 1023)
    assert reason(build(image)) is None
    assert reason(patched(build(image), (16, be32(1024)))) == why.BACKING_TOO_LONG
    short = build(dataclasses.replace(SMALL, backing="abcd"))
    assert reason(patched(short, (16, be32(500)))) == why.BACKING_OVERRUN
    assert reason(patched(short, (8, be64(40)))) == why.BACKING_OVERRUN
    assert reason(patched(short, (8, be64(1 << 40)))) == why.BACKING_OVERRUN


@pytest.mark.parametrize(
    ("backing_format", "rules", "expected"),
    [
        (None, None, why.BACKING_FORMAT_MISSING),
        ("raw", None, why.BACKING_FORMAT_RAW),
        ("raw", NameRules(raw_bases=frozenset({"base.img"})), None),
        ("qcow2", NameRules(raw_bases=frozenset({"base.img"})), why.BACKING_FORMAT_UNKNOWN),
        ("vmdk", None, why.BACKING_FORMAT_UNKNOWN),
        ("nbd", None, why.BACKING_FORMAT_UNKNOWN),
        ("qcow2", None, None),
    ],
)
def test_backing_format(backing_format: str | None, rules: NameRules | None, expected: str | None) -> None:
    image = build(dataclasses.replace(SMALL, backing="base.img", backing_format=backing_format))
    assert reason(image, rules) == expected


def test_a_folder_is_accepted_where_policy_says_so() -> None:
    image = build(dataclasses.replace(SMALL, backing="layers/a.qcow2"))
    assert reason(image, NameRules(prefix="layers/")) is None
    assert reason(image, NameRules(prefix="layers/", own_name="a.qcow2")) == why.BACKING_SELF


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(max_virtual_bytes=1024), why.VIRTUAL_SIZE),
        (Limits(max_l1_bytes=8), why.L1_TOO_LARGE),
        (Limits(max_reftable_bytes=256), why.REFTABLE_TOO_LARGE),
        (Limits(max_metadata_bytes=512), why.TOO_MUCH_METADATA),
        (Limits(max_host_clusters=4), why.TOO_MANY_HOST_CLUSTERS),
    ],
)
def test_limits(limits: Limits, expected: str) -> None:
    assert reason(build(SMALL), limits=limits) == expected


def test_large_layer_costs_its_tables_only() -> None:
    """64 KiB clusters, tables behind 32 MiB of data: the first read, then the tables, no data."""
    size = 1 << 16
    image = bytearray(build(Image({0: DATA, 8192 * 3: DATA}, virtual_size=4 << 29, cluster_bits=16)))
    far = 512 * size
    image += bytes(far + 2 * size - len(image))
    l1 = 3 * size
    first = int.from_bytes(image[l1 : l1 + 8], "big") & ~COPIED
    image[far : far + size] = image[first : first + size]
    image[l1 : l1 + 8] = be64(far | COPIED)
    asked = []
    reader = Qcow2Reader(len(image))
    while reader.wants:
        asked += [(want.start, want.length) for want in reader.wants]
        reader.feed([bytes(image[want.start : want.end]) for want in reader.wants])
    assert reader.facts.status == "ok"
    assert asked == [(0, 2 << 20), (far, size)]


def test_wrong_number_of_blocks_is_the_callers_fault() -> None:
    reader = Qcow2Reader(4096)
    with pytest.raises(ValueError, match="ranges were asked for"):
        reader.feed([])


def test_extents_hold_no_reference_to_the_bytes_that_were_fed() -> None:
    _, extents = read(build(SMALL))
    assert all(isinstance(getattr(extents, name), np.ndarray) for name in ("start", "length", "host_offset"))
    assert extents.start.dtype == np.int64
    assert extents.kind.dtype == np.int8
