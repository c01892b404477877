"""Hazard 11: internal snapshots vanish with their layer. Refused by the header."""

from pathlib import Path

import pytest

from tasks.errors import Refused
from tasks.inventory.local import inspect_file
from tasks.qemu.accepted import accept
from tests.support.chains import LayerSpec, build, tool
from tests.support.hazard import MIB, copy_of, stream_unprotected

pytestmark = pytest.mark.qemu


def test_stream_loses_them_and_chainwright_refuses(tmp_path: Path) -> None:
    chain = build(tmp_path / "chain", [LayerSpec(8 * MIB, writes=(("write", 0, MIB, n + 1),)) for n in range(3)])
    parent = chain.path(chain.layers[1])
    tool(["qemu-img", "snapshot", "-c", "before-upgrade", parent.name], chain.folder)
    spoilt = copy_of(chain, tmp_path / "spoilt")
    stream_unprotected(spoilt, 2, f"{chain.layers[0]}.qcow2")
    assert "before-upgrade" not in tool(["qemu-img", "snapshot", "-l", f"{chain.tip}.qcow2"], spoilt.folder)
    with pytest.raises(Refused, match="internal_snapshots"):
        accept(parent, inspect_file(parent).facts)
