"""The comparison that ends an export: equal content gives the file's hash, any difference is found and placed."""

import hashlib
import random
import resource
from pathlib import Path

import pytest

from tasks.errors import Permanent
from tasks.execute.guest import BLOCK_BYTES
from tasks.stages.guest_hash import Block, chain_blocks, equal_sha256, raw_blocks, raw_map
from tasks.units import KIB, MIB

SIZE = 3 * MIB + 512


def sparse(path: Path, size: int, *pieces: tuple[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for at, body in pieces:
            file.seek(at)
            file.write(body)
    return path


PIECES = [
    (),
    ((0, b"a"),),
    ((SIZE - 1, b"z"),),
    ((SIZE - 512, b"t" * 512), (64 * KIB - 1, b"xx")),
    ((MIB, b"m" * MIB), (2 * MIB + 100 * KIB, bytes(200 * KIB))),
]


@pytest.mark.parametrize("pieces", PIECES)
def test_hash_is_that_of_the_file(tmp_path: Path, pieces: tuple[tuple[int, bytes], ...]) -> None:
    left, right = sparse(tmp_path / "left", SIZE, *pieces), tmp_path / "right"
    right.write_bytes(left.read_bytes())  # the same without holes
    told: list[int] = []
    with raw_blocks(left) as ours, raw_blocks(right) as theirs:
        found = equal_sha256(ours, theirs, SIZE, told.append)
    assert found == hashlib.sha256(right.read_bytes()).hexdigest()
    assert sum(told) == SIZE


@pytest.mark.parametrize("at", [0, BLOCK_BYTES, MIB + 5, SIZE - 1])
@pytest.mark.parametrize("pieces", PIECES[1:])
def test_one_wrong_byte_is_found(tmp_path: Path, at: int, pieces: tuple[tuple[int, bytes], ...]) -> None:
    left = sparse(tmp_path / "left", SIZE, *pieces)
    body = bytearray(left.read_bytes())
    body[at] ^= 0xFF
    right = tmp_path / "right"
    right.write_bytes(bytes(body))
    for first, second in ((left, right), (right, left)):
        with raw_blocks(first) as ours, raw_blocks(second) as theirs, pytest.raises(Permanent) as error:
            equal_sha256(ours, theirs, SIZE, lambda count: None)
        assert f"guest offset {at // BLOCK_BYTES * BLOCK_BYTES}" in str(error.value)


def test_reader_of_a_raw_layer_agrees_with_its_bytes(tmp_path: Path) -> None:
    rng = random.Random(5)
    path = sparse(tmp_path / "raw", SIZE, *((rng.randrange(SIZE - 100), rng.randbytes(100)) for _ in range(20)))
    with chain_blocks([(path, raw_map(SIZE))], SIZE) as ours, raw_blocks(path) as theirs:
        left: list[Block] = list(ours)
        assert left == list(theirs)
    assert len(left) > 5


def test_a_chain_has_more_layers_than_a_process_has_descriptors(tmp_path: Path) -> None:
    """Public clouds have seen 1,000 layers; most systems let a process begin with 1,024 files."""
    layers = [(sparse(tmp_path / f"{number}", 512), raw_map(512)) for number in range(200)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (150, before[1]))
    try:
        with chain_blocks(layers, 512) as blocks:
            assert list(blocks) == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
