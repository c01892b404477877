"""Random forests through inventory, planner and engines: every head shows what it showed, or a reason is named."""

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from tasks.chain.head import Head
from tasks.plan.hazards import RULES
from tasks.plan.policy import Policy
from tasks.plan.reasons import HAZARDS, SKIPS
from tasks.settings import Fleet
from tasks.stages import inventory
from tasks.stages import plan as planning
from tasks.stages.apply import apply_merge
from tasks.store.heads import HeadStore
from tasks.store.plans import store_plan
from tests.support.image_forest import Tree, make_tree
from tests.support.merges import Stores, disk_sha256, publish_chain

REGIONS = ("us-east", "eu-west", "ap-south")


@dataclass(slots=True)
class Seen:
    """What a batch came across, to show that it covered something."""

    engines: Counter[str] = field(default_factory=Counter)
    skips: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    layers_removed: int = 0


def run_batch(fleet: Fleet, stores: Stores, folder: Path, seed: int, count: int) -> Seen:
    """`count` random trees in one fleet; several rounds of scan, plan and apply; every head compared after each."""
    rng = random.Random(seed)
    trees = [make_tree(folder / f"t{n}", f"d{n}", rng) for n in range(count)]
    for tree in trees:
        _publish(fleet, stores, tree, rng)
    seen = Seen()
    for engine in ("auto", rng.choice(["rebase", "stream", "compose"])):
        _one_round(fleet.model_copy(update={"policy": _policy(rng)}), stores, engine, seen)
        for tree in trees:
            for head, expected in tree.sha256.items():
                assert disk_sha256(fleet, stores, head, folder / "after") == expected, (seed, head, engine)
    return seen


def _policy(rng: random.Random) -> Policy:
    return Policy(
        max_chain_length=rng.randrange(1, 3),
        keep_layers=rng.randrange(0, 2),
        flatten=rng.random() < 0.3,
        drop_bitmaps=rng.random() < 0.5,
        max_garbage_share=rng.choice([0.0, 0.2, 0.5]),
        small_backing_bytes=rng.choice([0, 300 << 20]),
        safety=replace(Policy().safety, verify="full" if rng.random() < 0.3 else "map"),
    )


def _one_round(fleet: Fleet, stores: Stores, engine: str, seen: Seen) -> None:
    inventory.run_inventory(fleet)
    plan = planning.build(fleet, planning.Options((), engine))
    store_plan(stores[fleet.control_region], plan)  # with the extents that compose goes by
    for skip in plan.skips:
        assert skip.reason in SKIPS or skip.reason in HAZARDS, skip
        seen.skips[skip.reason] += 1
    for action in plan.actions:
        receipt = apply_merge(fleet, action, "differential")
        assert receipt.outcome in ("published", "refused"), (action.disk_id, receipt.outcome, receipt.reason)
        if receipt.outcome == "refused":
            code = receipt.reason.partition(":")[0]
            assert code in HAZARDS or any(code == name for rules in RULES.values() for name, _ in rules), receipt.reason
            seen.refusals[f"{action.engine} {code}"] += 1
        else:
            seen.engines[action.engine] += 1
            seen.layers_removed += receipt.layers_before - receipt.layers_after


def _publish(fleet: Fleet, stores: Stores, tree: Tree, rng: random.Random) -> None:
    spread = rng.random() < 0.5
    for name, chain in tree.disks.items():
        home = rng.choice(REGIONS)
        publish_chain(fleet, stores, chain, name, REGIONS if spread else [REGIONS[0]], home=home)
    heads = HeadStore(stores[fleet.control_region])
    for name, layer in tree.snapshots.items():
        heads.create(Head(name, layer, "snapshot", REGIONS[0]))
