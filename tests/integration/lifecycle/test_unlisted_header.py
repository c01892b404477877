"""The one small read by which retirement follows a layer that it does not know, on images that QEMU wrote."""

from pathlib import Path

import pytest

from tasks.errors import Refused
from tasks.execute.unlisted import read_backing
from tasks.qemu import img
from tasks.store import keys
from tasks.units import KIB, MIB
from tests.fakes.store import MemoryStore

pytestmark = pytest.mark.qemu
ID, BELOW = "a" * 32, "b" * 32


@pytest.mark.parametrize("cluster", [512, 64 * KIB, 2 * MIB])
@pytest.mark.parametrize("folder", ["", "/srv/" + "x" * 200 + "/"])
def test_backing_is_read_from_the_header(tmp_path: Path, cluster: int, folder: str) -> None:
    path = tmp_path / "layer.qcow2"
    if cluster == 512 and folder:
        folder = "/srv/"  # what fits
    img.create_overlay(path, MIB, f"{folder}{BELOW}.qcow2", cluster)
    store = MemoryStore()
    store.put_new(keys.layer(ID), path.read_bytes())
    assert read_backing(store, ID) == BELOW


def test_a_base_has_none_and_what_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "base.qcow2"
    img.create(path, MIB)
    store = MemoryStore()
    store.put_new(keys.layer(ID), path.read_bytes())
    store.put_new(keys.layer(BELOW), b"no image")
    assert read_backing(store, ID) is None
    with pytest.raises(Refused, match="bad_magic"):
        read_backing(store, BELOW)
