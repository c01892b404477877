"""Hazard 25: layers damaged by other writers of the format. QEMU converts them silently; our reader refuses them."""

from pathlib import Path

import pytest

from tasks.errors import Refused
from tasks.inventory.local import inspect_file
from tasks.qemu.accepted import accept
from tests.support.chains import LayerSpec, build, tool

pytestmark = pytest.mark.qemu


def _l2_table(path: Path) -> int:
    with path.open("rb") as file:
        file.seek(inspect_file(path).facts.l1_offset)
        return int.from_bytes(file.read(8), "big") & 0x00FFFFFFFFFFFE00


def test_two_guest_clusters_on_one_host_cluster(tmp_path: Path) -> None:
    chain = build(tmp_path, [LayerSpec(8 << 20, writes=(("write", 0, 1 << 20, 1),))])
    path = chain.path(chain.tip)
    with path.open("r+b") as file:
        file.seek(_l2_table(path))
        entry = file.read(8)
        file.write(entry)  # the second guest cluster shows the first one's data now
    tool(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path.name, "out.raw"], tmp_path)
    with pytest.raises(Refused, match="overlap"):
        accept(path, inspect_file(path).facts)


def test_a_table_that_was_cut_off(tmp_path: Path) -> None:
    chain = build(tmp_path, [LayerSpec(8 << 20, writes=(("write", 0, 1 << 20, 1),))])
    path = chain.path(chain.tip)
    with path.open("r+b") as file:
        file.truncate(_l2_table(path))
    tool(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path.name, "out.raw"], tmp_path)
    assert not (tmp_path / "out.raw").read_bytes().strip(b"\0")
    with pytest.raises(Refused, match="l2_outside"):
        accept(path, inspect_file(path).facts)
