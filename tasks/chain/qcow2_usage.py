"""Which host clusters are in use: one bit each. Finds overlaps of metadata, data and compressed data."""

import numpy as np
import numpy.typing as npt

from tasks.chain import qcow2_reasons as why
from tasks.chain.extent import I64
from tasks.errors import Refused

U8 = npt.NDArray[np.uint8]


class HostUsage:
    """Clusters of an object of `clusters` host clusters. Memory: one bit each, twice once something is compressed.

    A cluster of metadata or plain data has one owner (QEMU shares clusters only with internal snapshots, which are
    refused). Compressed clusters may share a host cluster with each other, but with nothing else.
    """

    def __init__(self, clusters: int) -> None:
        self._bytes = (clusters + 7) // 8
        self._owned: U8 = np.zeros(self._bytes, np.uint8)
        self._packed: U8 | None = None

    def own(self, clusters: I64, what: str) -> None:
        """Take the clusters (indices) for one owner each. Refused (overlap) if one is taken already."""
        if len(clusters) < 2:
            for cluster in clusters.tolist():  # tables of small layers; a tenth of what arrays cost
                self._own_one(cluster, what)
            return
        index = clusters if _rising(clusters) else np.sort(clusters)
        twice = index[1:][index[1:] == index[:-1]]
        at, bits = _as_bits(index)
        if self._packed is not None and (self._packed[at] & bits).any():
            raise _in_compressed(what)
        if len(twice) or (self._owned[at] & bits).any():
            raise _in_use(what)
        self._owned[at] |= bits

    def _own_one(self, cluster: int, what: str) -> None:
        at, bit = cluster >> 3, 1 << (cluster & 7)
        if self._packed is not None and self._packed[at] & bit:
            raise _in_compressed(what)
        if self._owned[at] & bit:
            raise _in_use(what)
        self._owned[at] |= bit

    def own_range(self, start: int, length: int, cluster_bits: int, what: str) -> None:
        """The same for the clusters that a byte range touches."""
        if length:
            self.own(np.arange(start >> cluster_bits, ((start + length - 1) >> cluster_bits) + 1, dtype=np.int64), what)

    def share(self, first: I64, last: I64) -> None:
        """Note compressed data in clusters `first` to `last` (inclusive, at most three each)."""
        if not len(first):
            return
        touched = np.unique(np.concatenate([(first + k)[first + k <= last] for k in range(3)]))
        at, bits = _as_bits(touched)
        if (self._owned[at] & bits).any():
            raise _in_use("compressed data")
        if self._packed is None:
            self._packed = np.zeros(self._bytes, np.uint8)
        self._packed[at] |= bits


def _in_use(what: str) -> Refused:
    return Refused(why.OVERLAP, f"{what} in a host cluster that is in use already")


def _in_compressed(what: str) -> Refused:
    return Refused(why.OVERLAP, f"{what} in a host cluster of compressed data")


def _rising(index: I64) -> bool:
    return bool((index[1:] > index[:-1]).all())


def _as_bits(index: I64) -> tuple[I64, U8]:
    """Sorted indices as (byte numbers, bits in them)."""
    byte = index >> 3
    bit = np.left_shift(np.uint8(1), (index & 7).astype(np.uint8))
    first = np.flatnonzero(np.concatenate(([True], byte[1:] != byte[:-1])))
    return byte[first], np.bitwise_or.reduceat(bit, first)
