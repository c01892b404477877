"""One fully allocated layer of TiBs: its tables are computed as the reader asks for them, its extents go to Parquet."""

import resource
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np

from tasks.chain.qcow2_ranges import ByteRange
from tasks.chain.qcow2_reader import Qcow2Reader
from tasks.inventory.parts import Spool
from tasks.units import MIB, TIB

CLUSTER = 1 << 16
PER_TABLE = CLUSTER // 8
COPIED = 1 << 63


class HugeLayer:
    """Bytes of a qcow2 layer of `tib` TiB: header, refcount table, L1, refcount blocks, L2 tables, then data."""

    def __init__(self, tib: float, scattered: bool) -> None:
        self.virtual = int(tib * TIB)
        self.clusters = self.virtual // CLUSTER
        self.tables = -(-self.clusters // PER_TABLE)
        self.l1_at = 64 * CLUSTER
        self.l2_at = self.l1_at + -(-self.tables * 8 // CLUSTER) * CLUSTER
        self.data_at = self.l2_at + self.tables * CLUSTER
        self.size = self.data_at + self.clusters * CLUSTER
        self.scattered = scattered

    def read(self, wanted: ByteRange) -> bytes:
        """Any range of the metadata."""
        parts, at = [], wanted.start
        while at < wanted.end:
            cluster = at // CLUSTER * CLUSTER
            parts.append(self._cluster(cluster)[at - cluster : wanted.end - cluster])
            at = cluster + CLUSTER
        return b"".join(parts)

    def _cluster(self, at: int) -> bytes:
        if at == 0:
            fixed = (b"QFI\xfb", 3, 0, 0, 16, self.virtual, 0, self.tables, self.l1_at, CLUSTER, 1, 0, 0)
            return (struct.pack(">4sIQIIQIIQQIIQ", *fixed) + struct.pack(">QQQII", 0, 0, 0, 4, 104)).ljust(
                CLUSTER, b"\0"
            )
        if self.l1_at <= at < self.l2_at:
            first = (at - self.l1_at) // 8
            number = np.arange(first, min(first + PER_TABLE, self.tables))
            entries = (self.l2_at + number * CLUSTER).astype(np.uint64) | np.uint64(COPIED)
            return entries.astype(">u8").tobytes().ljust(CLUSTER, b"\0")
        if self.l2_at <= at < self.data_at:
            first = (at - self.l2_at) // CLUSTER * PER_TABLE
            number = np.arange(first, first + PER_TABLE)
            if self.scattered:
                number = _permuted(number, self.clusters)
            entries = (self.data_at + number * CLUSTER).astype(np.uint64) | np.uint64(COPIED)
            return entries.astype(">u8").tobytes()
        return bytes(CLUSTER)


def _permuted(number: np.ndarray, count: int) -> np.ndarray:
    """A permutation of [0, count) that looks random; `count` is a power of two."""
    mask = count - 1
    mixed = (number * 0x9E3779B1) & mask
    mixed ^= mixed >> 11
    return ((mixed * 0x85EBCA6B) & mask) ^ 5


def measure(folder: Path, tib: float, scattered: bool) -> dict[str, Any]:
    """Peak memory, CPU time and output of reading the layer."""
    layer = HugeLayer(tib, scattered)
    spool = Spool(folder, "huge")
    layer.read(ByteRange(layer.l2_at, CLUSTER))
    base = _peak_mib()
    generated = 0.0
    started = time.process_time()
    reader = Qcow2Reader(layer.size)
    rows = fed = 0
    while reader.wants:
        before = time.process_time()
        blocks = [layer.read(wanted) for wanted in reader.wants]
        generated += time.process_time() - before
        fed += sum(map(len, blocks))
        for extents in reader.feed(blocks):
            rows += len(extents)
            spool.keep(extents)
        del blocks
    file = spool.finish(True)
    assert reader.facts.status == "ok", reader.facts
    return {
        "virtual_tib": tib,
        "scattered": scattered,
        "metadata_mib": round(fed / MIB, 1),
        "extents": rows,
        "parquet_mib": round(file.stat().st_size / MIB, 1) if file else 0,
        "cpu_seconds": round(time.process_time() - started - generated, 2),
        "peak_mib": round(_peak_mib(), 1),
        "peak_before_mib": round(base, 1),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
