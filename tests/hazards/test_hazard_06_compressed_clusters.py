"""Hazard 6: stream and rebase inflate compressed clusters; compose keeps them as they are."""

from pathlib import Path

import pytest

from tasks.chain.layer import ExtentKind
from tasks.inventory.local import inspect_file
from tasks.settings import Fleet
from tests.support.chains import Chain, LayerSpec, Op, build
from tests.support.hazard import MIB, OnAFleet, copy_of, stream_unprotected
from tests.support.merges import Stores, download_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    squeezed: tuple[tuple[Op, int, int, int], ...] = tuple(("compressed", n * 65536, 65536, n + 1) for n in range(80))
    base = LayerSpec(8 * MIB, writes=(("write", 0, MIB, 1),))
    top = LayerSpec(8 * MIB, writes=(("write", 0, MIB, 2),))
    return build(tmp_path / "chain", [base, LayerSpec(8 * MIB, writes=squeezed), top])


def test_stream_inflates(chain: Chain, tmp_path: Path) -> None:
    spoilt = copy_of(chain, tmp_path / "spoilt")
    stream_unprotected(spoilt, 2, f"{chain.layers[0]}.qcow2")
    kept = inspect_file(spoilt.path(spoilt.tip)).extents
    assert kept.guest_bytes(ExtentKind.COMPRESSED) == 0
    assert kept.stored_bytes() == 5 * MIB


@pytest.mark.parametrize(("engine", "compressed"), [("compose", 4 * MIB), ("stream", 0), ("rebase", 0)])
def test_content_is_the_same_and_compose_keeps_the_size(
    chain: Chain, fleet: Fleet, stores: Stores, tmp_path: Path, engine: str, compressed: int
) -> None:
    OnAFleet(fleet, stores, chain, tmp_path).published(engine)  # type: ignore[arg-type]
    after = download_chain(fleet, stores, "d1", tmp_path / "sizes")
    assert inspect_file(after.path(after.tip)).extents.guest_bytes(ExtentKind.COMPRESSED) == compressed
