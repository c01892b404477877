"""A layer as a value: its id, what its metadata says, and its extents."""

import enum
import re
from dataclasses import dataclass

LAYER_ID = re.compile(r"[0-9a-f]{32}")
DISK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
LAYER_SUFFIX = ".qcow2"


class ExtentKind(enum.IntEnum):
    """What a layer itself says of a guest range. Unallocated ranges have no extent."""

    DATA = 0
    ZERO = 1  # reads as zero, no host cluster
    ZERO_ALLOCATED = 2  # reads as zero, a host cluster is kept for it
    COMPRESSED = 3  # one extent per compressed cluster


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """What a layer's metadata says. All sizes in bytes. `reason` is set when `status` is `refused`."""

    status: str  # ok | refused
    reason: str | None = None  # stable code, e.g. `backing_absolute`
    detail: str | None = None  # for people: field, value
    version: int = 0
    cluster_bits: int = 0
    virtual_size: int = 0
    incompatible_features: int = 0
    compatible_features: int = 0
    autoclear_features: int = 0
    extended_l2: bool = False
    compression_type: str = "zlib"
    lazy_refcounts: bool = False
    refcount_bits: int = 16
    l1_entries: int = 0
    l1_offset: int = 0
    l2_tables: int = 0
    metadata_bytes: int = 0  # header + L1 + L2 as stored
    bitmaps: int = 0
    snapshots: int = 0
    backing_file: str | None = None  # the name in the header, as written; if that is refused, the layer it means
    backing_format: str | None = None

    @property
    def cluster_size(self) -> int:
        """Bytes of one cluster."""
        return 1 << self.cluster_bits


def layer_file_name(layer_id: str) -> str:
    """The name by which children refer to the layer in their headers."""
    return f"{layer_id}{LAYER_SUFFIX}"


def layer_id_of(file_name: str) -> str | None:
    """The id in a backing file name, or None if the name is not one of ours."""
    stem = file_name.removesuffix(LAYER_SUFFIX)
    return stem if stem != file_name and LAYER_ID.fullmatch(stem) else None
