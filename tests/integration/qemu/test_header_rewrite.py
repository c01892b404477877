"""A rewritten header is one that QEMU reads, and nothing but the name changes."""

from pathlib import Path

import pytest

from tasks.chain.header_rewrite import read_backing, read_extensions, rewrite_backing
from tasks.errors import Refused
from tests.support.chains import LayerSpec, build, check, guest_sha256, tool

pytestmark = pytest.mark.qemu


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("cluster_size", [4096, 65536, 2 << 20])
def test_qemu_reads_the_new_name(tmp_path: Path, version: int, cluster_size: int) -> None:
    specs = [LayerSpec(8 << 20, cluster_size, version, writes=(("write", i << 20, 1 << 20, i + 1),)) for i in range(3)]
    chain = build(tmp_path, specs)
    before = guest_sha256(chain.path(chain.tip))
    base = chain.path(chain.layers[0])
    moved = base.rename(tmp_path / ("m" * 100 + ".qcow2"))
    middle = chain.path(chain.layers[1])
    first = middle.read_bytes()[:cluster_size]
    changed = rewrite_backing(first, moved.name, "qcow2")
    assert len(changed) == cluster_size
    with middle.open("r+b") as file:
        file.write(changed)
    assert read_backing(changed) == (moved.name, "qcow2")
    assert guest_sha256(chain.path(chain.tip)) == before
    assert check(middle)["check-errors"] == 0
    kept = [kind for kind, _ in read_extensions(first)]
    assert sorted(kind for kind, _ in read_extensions(changed)) == sorted(kept)


def test_no_backing(tmp_path: Path) -> None:
    chain = build(tmp_path, [LayerSpec(1 << 20), LayerSpec(1 << 20)])
    path = chain.path(chain.tip)
    with path.open("r+b") as file:
        first = file.read(65536)
        file.seek(0)
        file.write(rewrite_backing(first, None, None))
    assert "backing-filename" not in tool(["qemu-img", "info", "--output", "json", path.name], tmp_path)


def test_name_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    chain = build(tmp_path, [LayerSpec(1 << 20, 512)])
    first = chain.path(chain.tip).read_bytes()[:512]
    rewrite_backing(first, "x" * 200, "qcow2")  # gives up the table of feature names
    with pytest.raises(Refused, match="header_full"):
        rewrite_backing(first, "x" * 400, "qcow2")
    with pytest.raises(Refused, match="header_full"):
        rewrite_backing(first + b"\0" * 65024, "x" * 1024, "qcow2")
    with pytest.raises(Refused, match="bad_header"):
        rewrite_backing(b"QFI\xfb" + b"\0" * 508, "x", "qcow2")
