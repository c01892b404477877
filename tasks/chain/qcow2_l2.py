"""L2 tables to extents in numpy: standard and extended entries, zeros, compressed descriptors. All is checked."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.chain import qcow2_reasons as why
from tasks.chain.extent import I8, I64, Extents
from tasks.chain.layer import ExtentKind
from tasks.chain.qcow2_layout import (
    L2_COMPRESSED,
    L2_COPIED,
    L2_OFFSET_MASK,
    L2_RESERVED_MASK,
    L2_ZERO,
    SECTOR,
    SUBCLUSTERS,
    Header,
)
from tasks.chain.qcow2_usage import HostUsage
from tasks.errors import Refused

U64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
_ABSENT = np.int8(-1)
_ALL_SUBCLUSTERS = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class _Compressed:
    """Compressed descriptors, taken apart. Equally long."""

    at: I64  # index of the entry
    offset: I64
    length: I64


class L2Decoder:
    """Decodes tables of one layer in guest order and notes the host clusters that they use."""

    def __init__(self, header: Header, object_bytes: int, usage: HostUsage) -> None:
        self._header = header
        self._object_bytes = object_bytes
        self._usage = usage

    def decode(self, tables: npt.NDArray[np.uint8], guest: I64) -> Extents:
        """Extents of `tables` (shape: tables x cluster size, bytes), which map guest ranges from `guest` on (rising).

        Runs are maximal inside the call. Ranges past the virtual size are checked and left in: the caller clips.
        Raises Refused.
        """
        header = self._header
        entries = np.ascontiguousarray(tables).view(">u8").reshape(-1, 2 if header.extended_l2 else 1)
        start, chosen = self._used(entries, guest)
        words = chosen[:, 0].astype(np.uint64)
        bitmap = chosen[:, 1].astype(np.uint64) if header.extended_l2 else None
        compressed = (words & np.uint64(L2_COMPRESSED)) != 0
        host = self._plain_offsets(words, compressed, bitmap)
        packed = self._compressed(words, compressed)
        if bitmap is None:
            kind = _kinds(words, host, compressed)
            return self._extents(start, kind, host, packed, 1)
        kind = _subcluster_kinds(bitmap, host, compressed)
        return self._extents(start, kind, host, packed, SUBCLUSTERS)

    def _used(self, entries: npt.NDArray[Any], guest: I64) -> tuple[I64, npt.NDArray[Any]]:
        """Guest offsets of the entries to decode, and these entries.

        Most tables are nearly empty: of these only what is not zero. Where most entries are used, picking them costs
        more than to decode the absent ones too.
        """
        per_table, bits = self._header.l2_entries, self._header.cluster_bits
        raw = entries.view(np.uint64)
        if np.count_nonzero(raw) * 2 > raw.size:
            step = np.arange(per_table, dtype=np.int64) << bits
            return (guest[:, None] + step).reshape(-1), entries
        used = np.flatnonzero(raw.any(axis=1) if raw.shape[1] > 1 else raw)
        table, place = np.divmod(used, per_table)
        return guest[table] + (place << bits), entries[used]

    def _plain_offsets(self, words: U64, compressed: Mask, bitmap: U64 | None) -> I64:
        """Host offsets of the entries that are not compressed (0: none), all checked."""
        plain = np.where(compressed, np.uint64(0), words)
        reserved = L2_RESERVED_MASK | (L2_ZERO if bitmap is not None else 0)
        _refuse_any(plain & np.uint64(reserved), why.RESERVED_BITS, "L2 entry with reserved bits")
        if self._header.version == 2:
            _refuse_any(plain & np.uint64(L2_ZERO), why.ZERO_FLAG_V2, "zero flag in a v2 image")
        host = (plain & np.uint64(L2_OFFSET_MASK)).astype(np.int64)
        _refuse_any(host & (self._header.cluster_size - 1), why.CLUSTER_UNALIGNED, "unaligned host offset")
        _refuse_any(host >= self._object_bytes, why.CLUSTER_OUTSIDE, "host cluster beyond the object")
        if bitmap is not None:
            _check_bitmaps(bitmap, host, compressed)
        self._usage.own(host[host != 0] >> self._header.cluster_bits, "data")
        return host

    def _compressed(self, words: U64, compressed: Mask) -> _Compressed:
        at = np.flatnonzero(compressed)
        entry = words[at]
        _refuse_any(entry & np.uint64(L2_COPIED), why.COMPRESSED_COPIED, "compressed entry with the copied flag")
        bits = self._header.cluster_bits
        shift = 62 - (bits - 8)
        offset = (entry & np.uint64((1 << shift) - 1)).astype(np.int64)
        sectors = ((entry >> np.uint64(shift)) & np.uint64((1 << (bits - 8)) - 1)).astype(np.int64) + 1
        end = offset // SECTOR * SECTOR + sectors * SECTOR
        limit = -(-self._object_bytes // SECTOR) * SECTOR
        _refuse_any(
            (offset >= self._object_bytes) | (end > limit), why.COMPRESSED_OUTSIDE, "compressed data past the end"
        )
        self._usage.share(offset >> bits, (end - 1) >> bits)
        return _Compressed(at, offset, np.minimum(end, self._object_bytes) - offset)

    def _extents(self, start: I64, kind: I8, host: I64, packed: _Compressed, units: int) -> Extents:
        """Maximal runs of units (clusters, or sub-clusters when `units` is 32)."""
        unit = self._header.cluster_size // units
        if units > 1:
            step = np.arange(units, dtype=np.int64) * unit
            start = (start[:, None] + step).reshape(-1)
            host = np.where(host[:, None] != 0, host[:, None] + step, 0).reshape(-1)
        found = _runs(start, kind, host, unit)
        is_packed = found.kind == ExtentKind.COMPRESSED
        host_offset = found.host_offset
        # Compressed extents come in the order of their entries, one each.
        host_offset[is_packed] = packed.offset
        # A last cluster may be stored short; of its sub-clusters some may not be stored at all.
        length = np.clip(self._object_bytes - host_offset, 0, found.length)
        length[is_packed] = packed.length
        length[found.kind == ExtentKind.ZERO] = 0
        found.length[is_packed] = self._header.cluster_size
        return Extents(found.start, found.length, found.kind, host_offset, length)


def _kinds(words: U64, host: I64, compressed: Mask) -> I8:
    zero = ((words & np.uint64(L2_ZERO)) != 0) & ~compressed
    kind = np.where(host != 0, np.int8(ExtentKind.DATA), _ABSENT)
    kind[zero] = np.where(host[zero] != 0, np.int8(ExtentKind.ZERO_ALLOCATED), np.int8(ExtentKind.ZERO))
    kind[compressed] = np.int8(ExtentKind.COMPRESSED)
    return kind


def _check_bitmaps(bitmap: U64, host: I64, compressed: Mask) -> None:
    allocated = bitmap & np.uint64(_ALL_SUBCLUSTERS)
    both = allocated & (bitmap >> np.uint64(32))
    wrong = (both != 0) | ((allocated != 0) & (host == 0)) | ((bitmap != 0) & compressed)
    _refuse_any(wrong, why.SUBCLUSTER_BITMAP, "impossible sub-cluster bitmap")


def _subcluster_kinds(bitmap: U64, host: I64, compressed: Mask) -> I8:
    """One kind per sub-cluster. A compressed entry is one unit: its other 31 are marked absent."""
    shifts = np.arange(SUBCLUSTERS, dtype=np.uint64)
    allocated = ((bitmap[:, None] >> shifts) & np.uint64(1)) != 0
    zero = ((bitmap[:, None] >> (shifts + np.uint64(32))) & np.uint64(1)) != 0
    kind = np.where(allocated, np.int8(ExtentKind.DATA), _ABSENT)
    kind[zero & (host[:, None] != 0)] = np.int8(ExtentKind.ZERO_ALLOCATED)
    kind[zero & (host[:, None] == 0)] = np.int8(ExtentKind.ZERO)
    kind[compressed, 0] = np.int8(ExtentKind.COMPRESSED)
    return kind.reshape(-1)


def _runs(start: I64, kind: I8, host: I64, unit: int) -> Extents:
    """Maximal runs of units of one kind, contiguous in the guest and (data, allocated zeros) in the host."""
    if not len(start):
        nothing = np.empty(0, np.int64)
        return Extents(nothing, nothing, np.empty(0, np.int8), nothing, nothing)
    has_host = (kind == ExtentKind.DATA) | (kind == ExtentKind.ZERO_ALLOCATED)
    fresh = np.ones(len(start), np.bool_)
    fresh[1:] = (
        (kind[1:] != kind[:-1])
        | (start[1:] != start[:-1] + unit)
        | (kind[1:] == ExtentKind.COMPRESSED)
        | (has_host[1:] & (host[1:] != host[:-1] + unit))
    )
    first = np.flatnonzero(fresh)
    length = np.diff(first, append=len(start)) * unit
    keep = kind[first] != _ABSENT
    first, length = first[keep], length[keep]
    host_offset = np.where(has_host[first], host[first], -1)
    return Extents(start[first], length, kind[first], host_offset, np.zeros(len(first), np.int64))


def _refuse_any(wrong: npt.NDArray[Any], reason: str, text: str) -> None:
    hits = np.flatnonzero(wrong)
    if len(hits):
        raise Refused(reason, f"{text} ({len(hits)} entries, first at {int(hits[0])} of this group)")
