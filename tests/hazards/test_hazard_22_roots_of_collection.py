"""Hazard 22: collection from wrong roots deletes live data. What a merge replaced stays until the grace ends."""

from pathlib import Path

import pytest

from tasks.errors import ChainwrightError
from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tasks.stages.retire import retire
from tasks.store import keys
from tests.support.chains import LayerSpec, build
from tests.support.hazard import MIB
from tests.support.merges import Stores, layer_keys, merge_action, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]


@pytest.fixture
def merged(fleet: Fleet, stores: Stores, tmp_path: Path) -> set[str]:
    """Layers of the store after one merge."""
    chain = build(tmp_path / "c", [LayerSpec(8 * MIB, writes=(("write", n * MIB, MIB, n + 1),)) for n in range(3)])
    refs = publish_chain(fleet, stores, chain, "d1")
    assert apply_merge(fleet, merge_action(refs, "d1", "rebase", 0, 1), "t").outcome == "published"
    return layer_keys(stores)


def test_replaced_layers_stay_for_the_grace(fleet: Fleet, stores: Stores, merged: set[str]) -> None:
    retire(fleet, dry_run=False, max_share=1.0)
    retire(fleet, dry_run=False, max_share=1.0)
    assert layer_keys(stores) == merged


def test_a_head_that_cannot_be_read_stops_everything(fleet: Fleet, stores: Stores, merged: set[str]) -> None:
    stores["us-east"].put_new(keys.head("other"), b"{ not a head")
    try:
        report = retire(fleet, dry_run=False, max_share=1.0)
    except ChainwrightError:
        pass
    else:
        assert report["stopped"] or not report.get("deleted")
    assert layer_keys(stores) == merged
