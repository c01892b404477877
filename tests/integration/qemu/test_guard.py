"""Sparse images fail closed: a byte that was not fetched is an I/O error, and nothing is taken for merged."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tasks.chain.extent import Ranges, ranges_of
from tasks.errors import Permanent
from tasks.inventory.local import inspect_file
from tasks.qemu import guard, img
from tasks.qemu.accepted import accept
from tasks.qemu.process import Sandbox, run
from tasks.qemu.storage_daemon import run_block_job
from tests.support.chains import Chain, LayerSpec, build, check, guest_sha256
from tests.support.hazard import stream_unprotected

pytestmark = pytest.mark.qemu
MIB = 1 << 20


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    writes = [("write", 0, 4 * MIB, 1), ("write", MIB, 2 * MIB, 2), ("write", 5 * MIB, MIB, 3)]
    return build(tmp_path / "chain", [LayerSpec(8 * MIB, writes=(layer,)) for layer in writes])  # type: ignore[arg-type]


def _ranges(*pairs: tuple[int, int]) -> Ranges:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return ranges_of(table[:, 0], table[:, 1])


def _with_a_hole(path: Path) -> tuple[int, int]:
    """Punch one data cluster out of the file."""
    extents = inspect_file(path).extents
    hole = int(extents.host_offset[0]) + 65536
    with path.open("r+b") as file:
        file.seek(hole)
        file.write(bytes(65536))
    return hole, hole + 65536


def test_a_plain_sparse_file_fails_open(chain: Chain) -> None:
    before = guest_sha256(chain.path(chain.tip))
    _with_a_hole(chain.path(chain.layers[1]))
    stream_unprotected(chain, 2, f"{chain.layers[0]}.qcow2")
    assert check(chain.path(chain.tip))["check-errors"] == 0
    assert guest_sha256(chain.path(chain.tip)) != before


def test_the_guard_fails_closed(chain: Chain) -> None:
    parent, tip = chain.path(chain.layers[1]), chain.path(chain.tip)
    header = tip.read_bytes()[:65536]
    start, end = _with_a_hole(parent)
    size = parent.stat().st_size
    exports = [
        _export("p", parent, _ranges((0, start), (end, size))),
        _export("t", tip, _ranges((0, tip.stat().st_size + 8 * MIB)), room=8 * MIB),
    ]
    with guard.serve(chain.folder, exports), pytest.raises(Permanent, match="Input/output error"):
        run_block_job(chain.folder, _nodes(), "block-stream", device="n0")
    assert tip.read_bytes()[:65536] == header


def test_complete_ranges_give_a_complete_merge(chain: Chain) -> None:
    parent, tip = chain.path(chain.layers[1]), chain.path(chain.tip)
    before = guest_sha256(tip)
    size = tip.stat().st_size
    exports = [
        _export("p", parent, _ranges((0, parent.stat().st_size))),
        _export("t", tip, _ranges((0, size + 8 * MIB)), room=8 * MIB),
    ]
    with guard.serve(chain.folder, exports):
        run_block_job(chain.folder, _nodes(), "block-stream", device="n0")
        found = img.check_guarded(chain.folder, "t")
    assert found.clean
    assert found.image_end > size
    changed = guard.written(exports[1].image)
    assert changed.total_bytes >= 2 * MIB
    image = accept(tip, inspect_file(tip).facts)
    img.rebase_unsafe(image, f"{chain.layers[0]}.qcow2")
    assert guest_sha256(tip) == before


def test_writes_are_logged_and_readable(chain: Chain) -> None:
    tip = chain.path(chain.tip)
    export = _export("t", tip, _ranges((0, 65536)), room=MIB)
    with guard.serve(chain.folder, [export]):
        sandbox = Sandbox(write=(chain.folder,))
        script = ["-c", "write -P 7 128k 4k", "-c", "read -P 7 128k 4k", "-c", "read 192k 4k"]
        options = f"driver=nbd,server.type=unix,server.path={guard.SOCKET},export=t"
        done = run(["qemu-io", *script, "--image-opts", options], sandbox=sandbox, cwd=chain.folder, ok=(0, 1))
    assert b"Pattern verification failed" not in done.stdout
    assert "Input/output error" in done.stderr + done.stdout.decode()
    assert guard.written(export.image).pairs() == [(131072, 135168)]


def test_an_unknown_export_and_a_foreign_folder(chain: Chain, tmp_path: Path) -> None:
    export = _export("t", chain.path(chain.tip), _ranges((0, 65536)))
    with guard.serve(chain.folder, [export]), pytest.raises(Permanent):
        img.check_guarded(chain.folder, "other")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(chain.path(chain.tip), elsewhere)
    with pytest.raises(Permanent, match="outside its folder"), guard.serve(elsewhere, [export]):
        pass


def _export(name: str, path: Path, held: Ranges, room: int = 0) -> guard.Export:
    image = accept(path, inspect_file(path).facts)
    return guard.Export(name, image, path.stat().st_size + room, held, writable=room > 0)


def _nodes() -> list[dict[str, object]]:
    def image(number: int, export: str, backing: str | None, readonly: bool) -> list[dict[str, object]]:
        file = {**guard.blockdev(export), "node-name": f"f{number}", "read-only": readonly}
        node = {"driver": "qcow2", "node-name": f"n{number}", "file": f"f{number}", "backing": backing}
        return [file, {**node, "read-only": readonly}]

    return [*image(1, "p", None, True), *image(0, "t", "n1", False)]
