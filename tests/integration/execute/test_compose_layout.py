"""Composed images, assembled locally as a store would: checked and compared by QEMU, and written to afterwards."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.chain import compose_layout, compose_pieces, extent
from tasks.chain.compose_layout import Layout, Rewritten, lay_out, lay_out_again
from tasks.chain.compose_metadata import expected_extents, metadata
from tasks.chain.compose_pieces import Source
from tasks.chain.extent import Ranges, ranges_of
from tasks.chain.visible import LayerView
from tasks.errors import Refused
from tasks.inventory.local import inspect_file
from tests.support.chains import Chain, LayerSpec, build, check, guest_sha256, random_specs, random_writes, write

pytestmark = pytest.mark.qemu
MIB = 1 << 20


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy ranges of 256 KiB, so that small images have some."""
    for module in (compose_layout, compose_pieces):
        monkeypatch.setattr(module, "MIN_PART_BYTES", 256 << 10)
    monkeypatch.setattr(compose_layout, "PART_PRICE_BYTES", 4096)


@pytest.mark.parametrize("seed", range(12))
def test_random_runs(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    cluster_size = rng.choice([4096, 65536, 65536, 262144])
    spec = LayerSpec(rng.choice([16, 24]) * MIB + rng.choice([0, 512 * 3]), cluster_size)
    specs = random_specs(rng, 5, spec, writes=10)
    big = replace(specs[1], writes=(("write", 0, 8 * MIB, 77), *specs[1].writes))
    chain = build(tmp_path, [specs[0], big, *specs[2:]])
    _check_composed(chain, 3, rng.choice([0.0, 0.2, 0.5, 0.9]), rng)


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_compressed_clusters_are_kept(tmp_path: Path, compression: str, share: float) -> None:
    rng = random.Random(4)
    plain = LayerSpec(32 * MIB, compression=compression)
    squeezed = tuple(("compressed", n * 65536, 65536, n % 250 + 1) for n in range(0, 400, 2))
    more = tuple(("compressed", n * 65536, 65536, n % 200 + 1) for n in range(0, 300, 3))
    specs = [plain, replace(plain, writes=squeezed), replace(plain, writes=more), random_specs(rng, 1, plain)[0]]
    chain = build(tmp_path, specs)
    layout = _check_composed(chain, 3, share, rng)
    assert layout.pieces.compressed.sum() > 150


def test_shorter_layers_below(tmp_path: Path) -> None:
    rng = random.Random(5)
    sizes = [24, 16, 10, 24, 20]
    specs = [LayerSpec(s * MIB, writes=tuple(random_writes(rng, LayerSpec(s * MIB), 8))) for s in sizes]
    specs[0] = replace(specs[0], writes=(("write", 0, 24 * MIB, 9),))
    chain = build(tmp_path, specs)
    _check_composed(chain, 4, 0.3, rng)


def test_layer_that_ends_inside_a_shared_cluster_is_refused(tmp_path: Path) -> None:
    specs = [LayerSpec(8 * MIB, writes=(("write", 0, 8 * MIB, 3),)), LayerSpec(4 * MIB + 512), LayerSpec(8 * MIB)]
    chain = build(tmp_path, specs)
    with pytest.raises(Refused, match="short_parent"):
        _layout(chain, 3, 0.2)


def test_flatten_needs_no_zeros(tmp_path: Path) -> None:
    rng = random.Random(6)
    chain = build(tmp_path, random_specs(rng, 3, LayerSpec(16 * MIB), writes=12))
    layout = _check_composed(chain, 3, 0.2, rng)
    assert not len(layout.zero_guest)


@pytest.mark.parametrize("seed", range(10))
def test_an_image_that_qemu_wrote_to_is_laid_out_anew(tmp_path: Path, seed: int) -> None:
    """Clusters that QEMU changed in place are never taken from the old object, whatever lies around them."""
    rng = random.Random(seed)
    spec = LayerSpec(24 * MIB + rng.choice([0, 512 * 3]), rng.choice([4096, 65536, 65536, 262144]))
    squeezed = tuple(("compressed", n * 262144, spec.cluster_size, n % 250 + 1) for n in range(40, 80, 3))
    big = replace(spec, writes=(*squeezed, ("write", 0, 8 * MIB, 77), *random_writes(rng, spec, 8)))
    chain = build(tmp_path, [replace(spec, writes=tuple(random_writes(rng, spec, 8))), big])
    path = chain.path(chain.tip)
    old = path.read_bytes()
    write(path, random_writes(rng, spec, 10))
    new, found = path.read_bytes(), inspect_file(path)
    image = Rewritten(LayerView(found.extents, spec.size), len(new), len(old), _changed(old, new), copyable=True)
    layout = lay_out_again(image, found.facts.cluster_bits, rng.choice([0.0, 0.2, 0.5, 0.9]))
    out = tmp_path / "again.qcow2"
    _assemble_of([old, new], chain, 1, layout, out)
    reread = check(out)
    assert reread["check-errors"] == reread.get("leaks", 0) == reread.get("corruptions", 0) == 0, reread
    assert guest_sha256(out) == guest_sha256(path)
    assert inspect_file(out).extents == expected_extents(layout)
    assert layout.segments or layout.packed.all()


def _changed(old: bytes, new: bytes) -> Ranges:
    """What differs, sector by sector."""
    size = min(len(old), len(new)) // 512 * 512
    rows = [np.frombuffer(body[:size], np.uint8).reshape(-1, 512) for body in (old, new)]
    at = np.flatnonzero((rows[0] != rows[1]).any(axis=1)) * 512
    return ranges_of(at, at + 512)


def test_empty_run(tmp_path: Path) -> None:
    chain = build(tmp_path, [LayerSpec(MIB, writes=(("write", 0, MIB, 1),)), LayerSpec(MIB), LayerSpec(MIB)])
    _check_composed(chain, 2, 0.2, random.Random(1))


def _check_composed(chain: Chain, count: int, share: float, rng: random.Random) -> Layout:
    before = guest_sha256(chain.path(chain.tip))
    layout = _layout(chain, count, share)
    assert layout.dead_bytes <= share * layout.total_bytes
    out = chain.folder / "composed.qcow2"
    _assemble(chain, count, layout, out)
    found = check(out)
    assert found["check-errors"] == found.get("leaks", 0) == found.get("corruptions", 0) == 0, found
    assert guest_sha256(out) == before
    mapped = inspect_file(out)
    assert mapped.facts.status == "ok", mapped.facts
    assert mapped.extents == expected_extents(layout)
    _survives_writes(chain, out, rng)
    return layout


def _survives_writes(chain: Chain, out: Path, rng: random.Random) -> None:
    """QEMU writes into the image and its refcounts stay right; the same writes over the old tip show the same disk."""
    size = inspect_file(out).facts.virtual_size
    writes = random_writes(rng, LayerSpec(size // 512 * 512), 12)
    tip = chain.path(chain.tip)
    write(out, writes)
    write(tip, writes)
    found = check(out)
    assert found["check-errors"] == found.get("leaks", 0) == found.get("corruptions", 0) == 0, found
    assert guest_sha256(out) == guest_sha256(tip)


def _layout(chain: Chain, count: int, share: float) -> Layout:
    sources = []
    for layer in reversed(chain.layers[-count:]):
        found = inspect_file(chain.path(layer))
        assert found.facts.status == "ok"
        size = chain.path(layer).stat().st_size
        sources.append(Source(LayerView(found.extents, found.facts.virtual_size), size, True))
    bits = found.facts.cluster_bits
    return lay_out(sources, bits, has_base=count < len(chain.layers), max_dead_share=share)


def _assemble(chain: Chain, count: int, layout: Layout, out: Path) -> None:
    run = [chain.path(layer).read_bytes() for layer in reversed(chain.layers[-count:])]
    _assemble_of(run, chain, count, layout, out)


def _assemble_of(run: list[bytes], chain: Chain, count: int, layout: Layout, out: Path) -> None:
    """`run`: the bytes of the layout's sources."""
    base = f"{chain.layers[-count - 1]}.qcow2" if count < len(chain.layers) else None
    compression = inspect_file(chain.path(chain.tip)).facts.compression_type
    with out.open("wb") as file:
        file.truncate(layout.total_bytes)
        for at, body in metadata(layout, base, compression):
            file.seek(at)
            file.write(body)
        pieces = layout.pieces
        for row in layout.packed.nonzero()[0].tolist():
            start, length = int(pieces.host[row]), int(pieces.length[row])
            file.seek(int(layout.target[row]))
            file.write(run[int(pieces.source[row])][start : start + length])
        for segment, at in zip(layout.segments, layout.segment_at, strict=True):
            file.seek(at)
            size = layout.cluster_size
            file.write(run[segment.source][segment.start * size : segment.end * size])


def test_extents_of_a_layout_are_normal_form(tmp_path: Path) -> None:
    chain = build(tmp_path, [LayerSpec(4 * MIB, writes=(("write", 0, 4 * MIB, 1),)), LayerSpec(4 * MIB)])
    layout = _layout(chain, 2, 0.2)
    assert extent.coalesce(expected_extents(layout)) == expected_extents(layout)
