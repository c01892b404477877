"""What retirement is told of layers that are refused, gone or unknown: what they are built on must not look unused."""

import datetime
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.inventory import manifest
from tasks.inventory.forest import load_forest
from tasks.plan.retire import Forest, reachable
from tasks.store import keys
from tests.support.inventory import Fleet
from tests.support.qcow2_bytes import DATA, Image, build, chain
from tests.unit.inventory.test_scan import IDS, NAMES, head

TIP = Image({0: DATA}, backing=NAMES[1])


def word(offset: int, value: int, shape: str = ">Q") -> Callable[[bytes], bytes]:
    """The image with one field of its header changed."""

    def change(body: bytes) -> bytes:
        changed = bytearray(body)
        struct.pack_into(shape, changed, offset, value)
        return bytes(changed)

    return change


REFUSED: dict[str, bytes] = {
    "dirty": word(72, 1)(build(TIP)),
    "corrupt": word(72, 2)(build(TIP)),
    "data_file": word(72, 4)(build(TIP)),
    "unknown_incompatible": word(72, 1 << 40)(build(TIP)),
    "encrypted": word(32, 2, ">I")(build(TIP)),
    "internal_snapshots": word(60, 1, ">I")(build(TIP)),
    "virtual_size": word(24, 1000)(build(TIP)),
    "l1_outside": word(40, 1 << 40)(build(TIP)),
    "backing_format_missing": build(Image({0: DATA}, backing=NAMES[1], backing_format=None)),
    "backing_format_raw": build(Image({0: DATA}, backing=NAMES[1], backing_format="raw")),
    "backing_absolute": build(Image({0: DATA}, backing=f"/srv/vm/{NAMES[1]}")),
    "backing_json": build(
        Image({0: DATA}, backing=f'json:{{"driver":"qcow2","file.filename":"/a/{NAMES[1]}"}}', cluster_bits=12)
    ),
}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Two sound layers."""
    made = Fleet(tmp_path)
    made.put("us-east", chain(2, NAMES))
    return made


def forest(fleet: Fleet, folder: Path) -> Forest:
    fleet.scan()
    snapshot = fleet.snapshot()
    assert snapshot is not None
    staged = manifest.stage(fleet.control, snapshot, folder)
    return load_forest(staged, datetime.datetime.now(datetime.UTC))[0]


def kept(found: Forest, tip: str) -> set[str]:
    mask = reachable(found, frozenset({tip}), {})
    return {layer_id for layer_id, keep in zip(found.ids, mask.tolist(), strict=True) if keep}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_refused_tip_keeps_the_chain_that_it_is_built_on(fleet: Fleet, tmp_path: Path, reason: str) -> None:
    fleet.put("eu-west", {NAMES[2]: REFUSED[reason]})
    fleet.control.put_new(keys.head("vm"), head("vm", IDS[2]))
    found = forest(fleet, tmp_path / "staged")
    assert fleet.layers()[IDS[2]]["reason"] == reason
    assert kept(found, IDS[2]) == set(IDS[:3])


def test_layers_that_are_not_there_any_more_keep_what_they_were_built_on(fleet: Fleet, tmp_path: Path) -> None:
    files = chain(5, NAMES)
    fleet.put("eu-west", {name: files[name] for name in NAMES[2:5]})
    fleet.control.put_new(keys.head("vm"), head("vm", IDS[4]))
    forest(fleet, tmp_path / "before")
    for number in (2, 4):
        fleet.stores["eu-west"].delete(keys.layer(IDS[number]))
    found = forest(fleet, tmp_path / "after")
    assert kept(found, IDS[4]) == set(IDS[:5])
    assert (found.objects, found.absent, found.unknown.sum()) == (3, 2, 0)


def test_a_layer_that_no_scan_has_seen_is_known_as_unknown(fleet: Fleet, tmp_path: Path) -> None:
    files = chain(4, NAMES)
    fleet.put("eu-west", {NAMES[3]: files[NAMES[3]]})
    fleet.control.put_new(keys.head("vm"), head("vm", IDS[3]))
    found = forest(fleet, tmp_path / "staged")
    assert kept(found, IDS[3]) == {IDS[2], IDS[3]}
    assert [found.ids[k] for k in found.unknown.nonzero()[0]] == [IDS[2]]


def test_hostile_backing_names_make_no_links(fleet: Fleet) -> None:
    for number, name in enumerate(("nbd://[", "json:[", "../x", "/etc/passwd", "nbd:unix:/x:exportname="), start=2):
        fleet.put("us-east", {NAMES[number]: build(Image({0: DATA}, backing=name))})
    fleet.scan()
    rows = [fleet.layers()[IDS[number]] for number in range(2, 7)]
    assert {(row["status"], row["backing_layer_id"]) for row in rows} == {("refused", None)}
