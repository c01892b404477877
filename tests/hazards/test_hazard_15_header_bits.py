"""Hazard 15: dirty, corrupt and unknown incompatible bits. `check` passes over the corrupt bit; Chainwright refuses."""

import struct
from pathlib import Path

import pytest

from tasks.inventory.local import inspect_file
from tests.support.chains import LayerSpec, build, check

pytestmark = pytest.mark.qemu


@pytest.mark.parametrize(("bit", "reason"), [(0, "dirty"), (1, "corrupt"), (9, "unknown_incompatible")])
def test_refused(tmp_path: Path, bit: int, reason: str) -> None:
    chain = build(tmp_path, [LayerSpec(1 << 20, writes=(("write", 0, 65536, 1),))])
    path = chain.path(chain.tip)
    with path.open("r+b") as file:
        file.seek(72)
        file.write(struct.pack(">Q", 1 << bit))
    if reason == "corrupt":
        assert check(path)["check-errors"] == 0
    facts = inspect_file(path).facts
    assert (facts.status, facts.reason) == ("refused", reason)
