"""Layers that a tenant might upload to do harm, with the reason for which each must be refused."""

import random

from tasks.chain import qcow2_reasons as why
from tests.support.qcow2_bytes import COPIED, DATA, Image, be32, be64, build, patched

# Where things are in the image that is spoilt: 512-byte clusters.
_REFTABLE, _L1, _L2 = 512, 1536, 2048


def hostile_layers(rng: random.Random, count: int) -> list[tuple[bytes, str]]:
    """(bytes, reason code), every kind in turn."""
    image = build(Image({0: DATA, 1: DATA}, virtual_size=64 << 10))
    kinds = [
        (b"", why.BAD_MAGIC),
        (rng.randbytes(5000), why.BAD_MAGIC),
        (image[:100], why.TRUNCATED_HEADER),
        (image[:1000], why.L1_OUTSIDE),
        (patched(image, (4, be32(9))), why.BAD_VERSION),
        (patched(image, (20, be32(60))), why.CLUSTER_BITS),
        (patched(image, (24, be64(1 << 62))), why.VIRTUAL_SIZE),
        (patched(image, (32, be32(1))), why.ENCRYPTED),
        (patched(image, (36, be32(1 << 30))), why.L1_TOO_LARGE),
        (patched(image, (56, be32(1 << 31))), why.REFTABLE_TOO_LARGE),
        (patched(image, (60, be32(65535))), why.INTERNAL_SNAPSHOTS),
        (patched(image, (72, be64(1))), why.DIRTY),
        (patched(image, (72, be64(4))), why.DATA_FILE),
        (patched(image, (72, be64(1 << 33))), why.UNKNOWN_INCOMPATIBLE),
        (patched(image, (_REFTABLE, be64(1 << 50))), why.REFBLOCK_OUTSIDE),
        (patched(image, (_L1, be64(1 << 50))), why.L2_OUTSIDE),
        (patched(image, (_L1 + 8, be64(_L2 | COPIED))), why.OVERLAP),
        (patched(image, (_L2, be64(1 << 50))), why.CLUSTER_OUTSIDE),
        (patched(image, (_L2, be64(_L2))), why.OVERLAP),
        (patched(image, (_L2 + 8, be64(1 << 62 | 1 << 40))), why.COMPRESSED_OUTSIDE),
        (build(Image({}, backing="/etc/shadow")), why.BACKING_ABSOLUTE),
        (build(Image({}, backing="../../x.qcow2")), why.BACKING_DOTDOT),
        (build(Image({}, backing='json:{"driver":"nbd"}')), why.BACKING_JSON),
        (build(Image({}, backing="http://169.254.169.254/x")), why.BACKING_PROTOCOL),
        (build(Image({}, backing="x.qcow2", backing_format="raw")), why.BACKING_FORMAT_RAW),
        (build(Image({}, backing="x.qcow2", backing_format=None)), why.BACKING_FORMAT_MISSING),
    ]
    return [kinds[number % len(kinds)] for number in range(count)]
