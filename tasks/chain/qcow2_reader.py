"""Sans-I/O reader of one qcow2 layer's metadata: says which bytes it wants, is fed them, gives facts and extents.

    reader = Qcow2Reader(object_bytes)
    while reader.wants:
        for extents in reader.feed([read(r.start, r.length) for r in reader.wants]):
            ...                      # in guest order, maximal runs; throw away if the layer turns out refused
    reader.facts                     # status ok, or refused with a stable reason

No input makes it raise: whatever the bytes say, it ends with facts. What it holds is bounded by
`MEMORY_BOUND_BYTES`, what it asks for by the object's size and `Limits`; guest data is asked for only where it
lies in the first 2 MiB or in a gap between tables (see `qcow2_ranges`).
"""

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tasks.chain import qcow2_bitmaps, qcow2_checks
from tasks.chain import qcow2_reasons as why
from tasks.chain.extent import I64, Extents, clip, coalesce, concat, empty
from tasks.chain.layer import ExtentKind, LayerFacts
from tasks.chain.qcow2_l2 import L2Decoder
from tasks.chain.qcow2_layout import (
    BIT_LAZY_REFCOUNTS,
    COMPRESSION_TYPES,
    ENTRY_BYTES,
    L1_OFFSET_MASK,
    L1_RESERVED_MASK,
    REFTABLE_RESERVED_MASK,
    Extensions,
    Header,
    Limits,
    parse_extensions,
    parse_header,
)
from tasks.chain.qcow2_names import NameRules, backing_of, claimed_layer
from tasks.chain.qcow2_ranges import (
    FIRST_READ_BYTES,
    GROUP_BYTES,
    Block,
    Blocks,
    ByteRange,
    coalesce_tables,
    join_places,
)
from tasks.chain.qcow2_usage import HostUsage
from tasks.errors import Refused
from tasks.units import MIB

# Entries that are decoded at once (sub-clusters for extended L2). The temporaries of a step are some 100 bytes each.
STEP_UNITS = 1 << 17
# First block 2, L1 32 (and as offsets 32), refcount table 8 (and 8), usage 2 x 64, one group 16 (twice while it is put
# in order, plus gaps), temporaries of a step 32. Measured peaks are in docs/benchmarks/inventory.md.
MEMORY_BOUND_BYTES = 320 * MIB

_Wants = tuple[ByteRange, ...]
_Steps = Generator[_Wants, Blocks, None]


class Qcow2Reader:
    """See the module. `rules` say which backing names are allowed, `limits` what a layer may cost.

    `first_read_bytes`: a merge, which reads the metadata of layers that it knows, asks for less than the inventory.
    """

    def __init__(
        self,
        object_bytes: int,
        rules: NameRules | None = None,
        limits: Limits | None = None,
        first_read_bytes: int = FIRST_READ_BYTES,
    ) -> None:
        self._object_bytes = object_bytes
        self._first_read_bytes = first_read_bytes
        self._rules = rules or NameRules()
        self._limits = limits or Limits()
        self._facts = LayerFacts(status="ok")
        self._claimed: str | None = None  # by a header that is not accepted
        self.header_accepted = False  # the header, its extensions and the backing name are read and sound
        self._ready: list[Extents] = []
        self._held = empty()  # the last extent so far: the next table may go on with it
        self._first = Blocks((), ())
        self._steps = self._run()
        self._wants: _Wants = next(self._steps)
        if object_bytes <= 0:
            self._refuse(Refused(why.BAD_MAGIC, "the object is empty"))

    @property
    def wants(self) -> _Wants:
        """The ranges to feed next, in ascending order within a table group. Empty: the layer is done."""
        return self._wants

    @property
    def facts(self) -> LayerFacts:
        """What is known so far; final once `wants` is empty."""
        return self._facts

    def feed(self, data: Sequence[Block]) -> list[Extents]:
        """Give the bytes of all of `wants`, in its order; the extents that became certain.

        A block that is too short refuses the layer (`short_read`). ValueError if the number of blocks is wrong.
        """
        try:
            self._wants = self._steps.send(Blocks(self._wants, data))
        except StopIteration:
            self._wants = ()
            self._emit(self._held)
        except Refused as error:
            self._refuse(error)
        ready, self._ready = self._ready, []
        return ready

    def _refuse(self, error: Refused) -> None:
        self._steps.close()
        self._wants, self._ready, self._held = (), [], empty()
        backing = self._facts.backing_file or self._claimed
        self._facts = replace(
            self._facts, status="refused", reason=error.reason, detail=error.text, backing_file=backing
        )

    def _run(self) -> _Steps:
        block = yield from self._read_first(self._first_read_bytes)
        header = parse_header(block)
        if len(block) < min(header.cluster_size, self._object_bytes):  # it holds all extensions and the name
            block = yield from self._read_first(header.cluster_size)
        self._facts = _facts_of(header)
        self._claimed = claimed_layer(block, header, self._rules)
        extensions = self._check(block, header)
        self.header_accepted = True
        usage = HostUsage(-(-self._object_bytes // header.cluster_size))
        _own_places(header, extensions, usage)
        tables = yield from self._read_tables(header, extensions)
        l1 = _checked_l1(tables[0], header, self._object_bytes)
        self._own_tables(header, tables, l1, usage)
        self._note_l2(header, l1)
        if extensions.bitmaps:
            yield from self._check_bitmaps(header, extensions, tables[2], usage)
        del tables, block
        yield from self._read_l2(header, l1, L2Decoder(header, self._object_bytes, usage))

    def _read_first(self, length: int) -> Generator[_Wants, Blocks, Block]:
        length = min(length, self._object_bytes)
        self._first = yield (ByteRange(0, length),)
        return self._first.first

    def _check(self, block: Block, header: Header) -> Extensions:
        # An unknown incompatible bit is named by the feature table, but may change what the extensions mean.
        try:
            extensions = parse_extensions(block, header)
        except Refused:
            qcow2_checks.check_features(header, {})
            raise
        qcow2_checks.check_features(header, extensions.feature_names)
        qcow2_checks.check_tables(header, self._object_bytes, self._limits)
        backing = backing_of(block, header, extensions.backing_format, self._rules)
        bitmaps = extensions.bitmaps.count if extensions.bitmaps else 0
        self._facts = replace(self._facts, bitmaps=bitmaps)
        if backing:
            self._facts = replace(self._facts, backing_file=backing[0], backing_format=backing[1])
        if extensions.bitmaps:
            qcow2_checks.check_bitmap_directory(extensions.bitmaps, self._object_bytes, self._limits)
        return extensions

    def _read_tables(self, header: Header, extensions: Extensions) -> Generator[_Wants, Blocks, list[bytes]]:
        """L1 table, refcount table and, if there is one, the bitmap directory."""
        places = [
            (header.l1_offset, header.l1_entries * ENTRY_BYTES),
            (header.reftable_offset, header.reftable_clusters << header.cluster_bits),
        ]
        if extensions.bitmaps:
            places.append((extensions.bitmaps.directory_offset, extensions.bitmaps.directory_size))
        return (yield from self._read_places(places))

    def _read_places(self, places: list[tuple[int, int]]) -> Generator[_Wants, Blocks, list[bytes]]:
        """Bytes of disjoint (start, length), from the first block or fetched."""
        found = [self._first.read(start, length) for start, length in places]
        missing = {place for place, block in zip(places, found, strict=True) if block is None}
        if missing:
            fetched = yield tuple(join_places(sorted(missing)))
            found = [fetched.read(*p) if b is None else b for p, b in zip(places, found, strict=True)]
        return [block if block is not None else b"" for block in found]

    def _own_tables(self, header: Header, tables: list[bytes], l1: I64, usage: HostUsage) -> None:
        """Note the clusters that the tables name; anything that overlaps is refused."""
        bits = header.cluster_bits
        usage.own(_checked_refblocks(tables[1], header, self._object_bytes) >> bits, "refcount block")
        usage.own(l1[l1 != 0] >> bits, "L2 table")

    def _check_bitmaps(self, header: Header, extensions: Extensions, directory: bytes, usage: HostUsage) -> _Steps:
        """Read the tables of persistent bitmaps and note their clusters."""
        assert extensions.bitmaps
        found = qcow2_bitmaps.parse_directory(directory, extensions.bitmaps, header, self._object_bytes, self._limits)
        for table in found:
            usage.own_range(table.offset, table.length, header.cluster_bits, "bitmap table")
        tables = yield from self._read_places([(table.offset, table.length) for table in found])
        clusters = qcow2_bitmaps.bitmap_clusters(tables, header, self._object_bytes)
        usage.own(clusters >> header.cluster_bits, "bitmap")

    def _note_l2(self, header: Header, l1: I64) -> None:
        count = int(np.count_nonzero(l1))
        if count << header.cluster_bits > self._limits.max_metadata_bytes:
            raise Refused(why.TOO_MUCH_METADATA, f"{count} L2 tables of {header.cluster_size} bytes")
        stored = header.cluster_size + header.l1_entries * ENTRY_BYTES + (count << header.cluster_bits)
        self._facts = replace(self._facts, l2_tables=count, metadata_bytes=stored)

    def _read_l2(self, header: Header, l1: I64, decoder: L2Decoder) -> _Steps:
        """Ask for groups of L2 tables in guest order, decode them in steps."""
        used = np.flatnonzero(l1)
        size = header.cluster_size
        group = max(1, GROUP_BYTES // size)
        step = max(1, STEP_UNITS // (header.l2_entries * (32 if header.extended_l2 else 1)))
        for at in range(0, len(used), group):
            index = used[at : at + group]
            tables = np.empty((len(index), size), np.uint8)
            have = self._first.tables(l1[index], size, tables)
            if not have.all():
                blocks = yield tuple(coalesce_tables(l1[index][~have], size))
                have |= blocks.tables(l1[index], size, tables)
                assert have.all()
                del blocks
            for low in range(0, len(index), step):
                guest = index[low : low + step] * header.l2_guest_bytes
                self._emit(decoder.decode(tables[low : low + step], guest), hold=True)

    def _emit(self, extents: Extents, hold: bool = False) -> None:
        """Queue extents, joined with the one held back; hold the last one back if more may come."""
        joined = clip(coalesce(concat([self._held[:], extents])) if hold else extents, 0, self._facts.virtual_size)
        if hold and len(joined) and joined.kind[-1] != ExtentKind.COMPRESSED:
            self._held, joined = joined[-1:], joined[:-1]
        else:
            self._held = empty()
        if len(joined):
            self._ready.append(joined)


def _own_places(header: Header, extensions: Extensions, usage: HostUsage) -> None:
    """Note the clusters that the header names."""
    bits = header.cluster_bits
    usage.own_range(0, 1, bits, "header")
    usage.own_range(header.l1_offset, header.l1_entries * ENTRY_BYTES, bits, "L1 table")
    usage.own_range(header.reftable_offset, header.reftable_clusters << bits, bits, "refcount table")
    if extensions.bitmaps:
        usage.own_range(
            extensions.bitmaps.directory_offset, extensions.bitmaps.directory_size, bits, "bitmap directory"
        )


def _facts_of(header: Header) -> LayerFacts:
    return LayerFacts(
        status="ok",
        version=header.version,
        cluster_bits=header.cluster_bits,
        virtual_size=header.virtual_size,
        incompatible_features=header.incompatible,
        compatible_features=header.compatible,
        autoclear_features=header.autoclear,
        extended_l2=header.extended_l2,
        compression_type=COMPRESSION_TYPES.get(header.compression_type, str(header.compression_type)),
        lazy_refcounts=bool(header.compatible & BIT_LAZY_REFCOUNTS),
        refcount_bits=1 << min(header.refcount_order, 6),
        l1_entries=header.l1_entries,
        l1_offset=header.l1_offset,
        snapshots=header.snapshots,
    )


def _words(table: bytes) -> npt.NDArray[np.uint64]:
    return np.frombuffer(table, ">u8").astype(np.uint64)


def _checked_l1(table: bytes, header: Header, object_bytes: int) -> I64:
    """Offsets of the L2 tables (0: none), by L1 index."""
    words = _words(table)
    if (words & np.uint64(L1_RESERVED_MASK)).any():
        raise Refused(why.RESERVED_BITS, "L1 entry with reserved bits")
    offsets = (words & np.uint64(L1_OFFSET_MASK)).astype(np.int64)
    if (words[offsets == 0] != 0).any():
        raise Refused(why.RESERVED_BITS, "L1 entry with flags but no table")
    if (offsets & (header.cluster_size - 1)).any():
        raise Refused(why.L2_UNALIGNED, "L1 entry with an unaligned offset")
    if len(offsets) and int(offsets.max()) + header.cluster_size > object_bytes and offsets.any():
        raise Refused(why.L2_OUTSIDE, f"L2 table at {int(offsets.max())}, object has {object_bytes} bytes")
    return offsets


def _checked_refblocks(table: bytes, header: Header, object_bytes: int) -> I64:
    words = _words(table)
    words = words[words != 0]
    if (words & np.uint64(REFTABLE_RESERVED_MASK)).any():
        raise Refused(why.RESERVED_BITS, "refcount table entry with reserved bits")
    if (words & np.uint64(header.cluster_size - 1)).any():
        raise Refused(why.REFBLOCK_UNALIGNED, "refcount block with an unaligned offset")
    if len(words) and int(words.max()) >= object_bytes:
        raise Refused(why.REFBLOCK_OUTSIDE, f"refcount block at {int(words.max())}, object has {object_bytes} bytes")
    offsets: I64 = words.astype(np.int64)
    return offsets
