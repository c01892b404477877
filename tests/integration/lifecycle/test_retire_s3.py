"""Retirement and undo on the real store, through the verbs: a merged disk, its grace, and a region that is away."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks.analytics.duck import open_manifest
from tasks.analytics.queries import find, run
from tasks.errors import ChainwrightError, Refused
from tasks.settings import Fleet
from tasks.stages import heads, lifecycle, maintain, plan, retire
from tasks.stages.apply import apply_action
from tasks.stages.export import export_disk
from tasks.stages.inventory import run_inventory
from tasks.stages.transfer import import_disk
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store
from tasks.units import KIB, MIB
from tests.support.chains import LayerSpec, build
from tests.support.cli import chainwright, write_fleet_toml

pytestmark = [pytest.mark.s3, pytest.mark.qemu]
SPECS = [LayerSpec(size=4 * MIB, writes=(("write", n * 256 * KIB, 512 * KIB, n + 1),)) for n in range(4)]


def without_grace(fleet: Fleet, **changes: object) -> Fleet:
    """The operator's explicit override, so that a test need not wait for three days."""
    margins = {"grace_hours": 0.0, "allow_short_grace": True, "max_retired_share": 1.0, **changes}
    safety = dataclasses.replace(fleet.policy.safety, **margins)  # type: ignore[arg-type]
    return fleet.model_copy(update={"policy": dataclasses.replace(fleet.policy, safety=safety)})


@pytest.fixture
def merged(fleet: Fleet, tmp_path: Path) -> Fleet:
    """Disk `vm` whose last action merged a run of its chain."""
    chain = build(tmp_path / "in", SPECS)
    import_disk(fleet, chain.folder, "vm", chain.path(chain.tip).name, "us-east")
    export_disk(fleet, "vm", tmp_path / "before.raw")
    run_inventory(fleet)
    planned = maintain.plan_disk(fleet, "vm", "merge")
    for item in planned["items"]:
        assert apply_action(fleet, item["plan_id"], item["action_id"], "test")["outcome"] == "published"
    return fleet


def layer_count(stores: dict[str, ObjectStore]) -> int:
    return sum(1 for store in stores.values() for _ in store.list(keys.LAYERS))


def same_content(fleet: Fleet, tmp_path: Path) -> bool:
    out = tmp_path / "after.raw"
    out.unlink(missing_ok=True)
    export_disk(fleet, "vm", out)
    return out.read_bytes() == (tmp_path / "before.raw").read_bytes()


def test_replaced_layers_are_marked_then_deleted(merged: Fleet, stores: dict[str, ObjectStore], tmp_path: Path) -> None:
    before = layer_count(stores)
    assert retire.retire(merged, dry_run=False)["marked"] == []  # too young: the floor of the grace
    fleet = without_grace(merged)
    dry = retire.retire(fleet, dry_run=True)
    assert dry["marked"]
    assert retire.retire(fleet, dry_run=False)["marked"] == dry["marked"]
    done = retire.retire(fleet, dry_run=False)
    assert sorted(done["swept"]) == sorted(dry["marked"])
    assert layer_count(stores) == before - len(done["swept"])
    assert sum(done["freed_bytes"].values()) > 0
    assert done["freed_usd_per_month"].keys() == done["freed_bytes"].keys()
    assert same_content(merged, tmp_path)
    assert retire.retire(fleet, dry_run=False)["swept"] == []


def test_savings_count_what_was_freed_when_it_is_gone(merged: Fleet, stores: dict[str, ObjectStore]) -> None:
    fleet = without_grace(merged)
    (action,) = stores["us-east"].list(keys.ACTIONS)
    made = json.loads(stores["us-east"].get(action.key)[0])["new_layers"]
    before = stored_bytes(stores, made)  # as the disk was stored until its merge
    run_inventory(merged)
    waiting = savings(merged)
    assert (waiting["actions"], waiting["freed_actions"], waiting["actual_freed_bytes"]) == (1, 0, 0)
    assert waiting["waiting_freed_bytes"] == waiting["predicted_freed_bytes"] > 0
    retire.retire(fleet, dry_run=False)
    assert savings(merged)["freed_actions"] == 0  # marked is not gone
    assert retire.retire(fleet, dry_run=False)["swept"]
    run_inventory(merged)
    freed = savings(merged)
    assert (freed["freed_actions"], freed["waiting_freed_bytes"]) == (1, 0)
    assert freed["actual_freed_bytes"] == before - stored_bytes(stores)
    assert freed["freed_ratio"] == freed["actual_freed_bytes"] / freed["predicted_freed_bytes"]


def stored_bytes(stores: dict[str, ObjectStore], without: Sequence[str] = ()) -> int:
    left_out = {keys.layer(layer_id) for layer_id in without}
    listed = [info for store in stores.values() for info in store.list(keys.LAYERS)]
    return sum(info.size for info in listed if info.key not in left_out)


def savings(fleet: Fleet) -> dict[str, Any]:
    """The one row of `chainwright query savings`."""
    folder, _ = plan.staged(fleet, control_store(fleet))
    with open_manifest(folder) as connection:
        (row,) = run(connection, find("savings")).dicts()
    return row


def test_undo_brings_the_old_chain_back_until_it_is_deleted(merged: Fleet, tmp_path: Path) -> None:
    new_tip = heads.show(merged, "vm").head.tip
    fleet = without_grace(merged)
    retire.retire(fleet, dry_run=False)
    toml = write_fleet_toml(merged, tmp_path / "fleet.toml")
    ran = chainwright("undo", "vm", "--fleet", toml, "--json")
    assert ran.code == 0, ran.err
    assert heads.show(merged, "vm").head.tip == ran.json["tip"] != new_tip
    assert same_content(merged, tmp_path)
    swept = retire.retire(fleet, dry_run=False)["swept"]
    assert new_tip not in swept  # the merge's result is only marked by now
    assert same_content(merged, tmp_path)
    again = chainwright("undo", "vm", "--fleet", toml)
    assert again.code == 1
    assert "nothing_to_undo" in again.err


def test_inventory_half_missing_deletes_nothing(merged: Fleet, stores: dict[str, ObjectStore]) -> None:
    fleet = without_grace(merged)
    retire.retire(fleet, dry_run=False)
    before = layer_count(stores)
    regions = tuple(
        region.model_copy(update={"endpoint": "http://127.0.0.1:9"}) if region.name == "ap-south" else region
        for region in fleet.regions
    )
    with pytest.raises(ChainwrightError) as caught:
        retire.retire(fleet.model_copy(update={"regions": regions}), dry_run=False)
    assert "ap-south" in str(caught.value)
    assert layer_count(stores) == before


def test_share_cap_stops_the_run_and_says_why(merged: Fleet, tmp_path: Path) -> None:
    fleet = without_grace(merged, max_retired_share=0.1)
    retire.retire(fleet, dry_run=False)
    toml = write_fleet_toml(fleet, tmp_path / "fleet.toml")
    ran = chainwright("retire", "--real", "--fleet", toml)
    assert ran.code == 1
    assert "share_exceeded" in ran.err


def test_clone_of_a_running_disk_keeps_its_layers(merged: Fleet, tmp_path: Path) -> None:
    heads.clone(merged, "vm", "copy", kind="disk", region=None)
    heads.start(merged, "vm", "host")
    fleet = without_grace(merged)
    for _ in range(2):
        retire.retire(fleet, dry_run=False)
    lifecycle.discard(merged, "vm")
    assert same_content(merged, tmp_path)


def test_undo_of_an_unknown_disk_is_one_line(fleet: Fleet, tmp_path: Path) -> None:
    toml = write_fleet_toml(fleet, tmp_path / "fleet.toml")
    ran = chainwright("undo", "nobody", "--fleet", toml)
    assert ran.code == 1
    assert "no disk 'nobody'" in ran.err
    with pytest.raises(Refused, match="nothing_to_undo"):
        _undo_of_a_fresh_disk(fleet, tmp_path)


def _undo_of_a_fresh_disk(fleet: Fleet, tmp_path: Path) -> None:
    chain = build(tmp_path / "fresh", SPECS[:1])
    import_disk(fleet, chain.folder, "fresh", chain.path(chain.tip).name, "us-east")
    retire.undo(fleet, "fresh")


@pytest.mark.parametrize("gone", [(3,), (1,), (3, 2), (3, 2, 1)], ids=str)
def test_what_a_lost_layer_was_built_on_stays(
    fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path, gone: tuple[int, ...]
) -> None:
    """A delete marker, an index that forgot an entry, a hasty hand: who brings the layer back has the disk again."""
    chain = build(tmp_path / "in", SPECS)
    done = import_disk(fleet, chain.folder, "vm", chain.path(chain.tip).name, "us-east")
    export_disk(fleet, "vm", tmp_path / "before.raw")
    run_inventory(fleet)
    store = stores["us-east"]
    lost = {key: store.get(key)[0] for key in (keys.layer(done.layers[number].layer_id) for number in gone)}
    for key in lost:
        store.delete(key)
        run_inventory(fleet)
    for _ in range(3):
        report = retire.retire(without_grace(fleet), dry_run=False)
        assert (report["marked"], report["swept"]) == ([], [])
    for key, body in lost.items():
        store.put_new(key, body)
    assert same_content(fleet, tmp_path)
