"""Compose with the manifest's extents: it reads headers only; what is wrong with the extents is never published."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.errors import Permanent
from tasks.execute.receipt import Receipt
from tasks.plan.steps import MergeAction
from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tasks.store import keys
from tests.support.chains import Chain, LayerSpec, build, guest_sha256, random_specs
from tests.support.merges import (
    Stores,
    disk_sha256,
    layer_keys,
    merge_action,
    publish_chain,
    run_extents,
    with_maps,
)

pytestmark = [pytest.mark.qemu, pytest.mark.s3]
CLUSTER = 65536


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return build(tmp_path / "chain", random_specs(random.Random(3), 5, LayerSpec(16 << 20), writes=8))


def test_only_headers_are_read(fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path) -> None:
    action = _publish(fleet, stores, chain, "d1")
    known = _run(fleet, with_maps(fleet, stores, action, run_extents(chain, action)))
    plain = _run(fleet, _publish(fleet, stores, chain, "d2"))
    saved = _read(plain) - _read(known)
    assert saved >= 3 * 2 * CLUSTER  # of three layers, at least the L1 and the L2 table
    expected = guest_sha256(chain.path(chain.tip))
    assert disk_sha256(fleet, stores, "d1", tmp_path / "known") == expected
    assert disk_sha256(fleet, stores, "d2", tmp_path / "plain") == expected


def test_extents_that_are_gone_are_read_from_the_layers(
    fleet: Fleet, stores: Stores, chain: Chain, tmp_path: Path
) -> None:
    action = replace(_publish(fleet, stores, chain, "d1"), maps=keys.run_maps("snapshot", "0" * 64))
    _run(fleet, action)
    assert disk_sha256(fleet, stores, "d1", tmp_path / "after") == guest_sha256(chain.path(chain.tip))


def test_damaged_extents(fleet: Fleet, stores: Stores, chain: Chain) -> None:
    action = _publish(fleet, stores, chain, "d1")
    name = keys.run_maps("snapshot", "1" * 64)
    stores[fleet.control_region].put_new(name, b"other bytes")
    with pytest.raises(Permanent, match="damaged"):
        apply_merge(fleet, replace(action, maps=name), "t1")
    assert layer_keys(stores) == set(chain.layers)


def test_extents_of_an_object_with_another_etag(fleet: Fleet, stores: Stores, chain: Chain) -> None:
    action = _publish(fleet, stores, chain, "d1")
    stale = replace(action, run=tuple(replace(ref, etag='"another"') for ref in action.run))
    named = with_maps(fleet, stores, stale, run_extents(chain, action))
    with pytest.raises(Permanent, match="not of"):
        apply_merge(fleet, replace(action, maps=named.maps), "t1")
    assert layer_keys(stores) == set(chain.layers)


def test_false_extents_do_not_pass_the_full_comparison(fleet: Fleet, stores: Stores, chain: Chain) -> None:
    """The manifest would have to be wrong about an object that did not change: full verification does not trust it."""
    action = _publish(fleet, stores, chain, "d1")
    false = run_extents(chain, action)
    false[0], false[1] = false[0][1:], false[1][:-1]
    policy = replace(fleet.policy, safety=replace(fleet.policy.safety, verify="full"))
    with pytest.raises(Permanent, match="full verification"):
        apply_merge(fleet.model_copy(update={"policy": policy}), with_maps(fleet, stores, action, false), "t1")
    assert layer_keys(stores) == set(chain.layers)


def _publish(fleet: Fleet, stores: Stores, chain: Chain, disk: str) -> MergeAction:
    return merge_action(publish_chain(fleet, stores, chain, disk), disk, "compose", 0, 2)


def _run(fleet: Fleet, action: MergeAction) -> Receipt:
    receipt = apply_merge(fleet, action, "t1")
    assert receipt.outcome == "published", receipt.reason
    return receipt


def _read(receipt: Receipt) -> int:
    assert receipt.actual is not None
    return sum(receipt.actual.read_bytes.values())
