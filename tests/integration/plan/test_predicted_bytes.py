"""What the plan predicts is what the stores count: fetched, sent and copied bytes, region by region."""

import random

import pytest

from tasks.execute import replica, upload
from tasks.plan import predict
from tasks.plan.steps import Cost, MergeAction
from tasks.settings import Fleet
from tasks.stages import inventory
from tasks.stages import plan as planning
from tasks.stages.apply import apply_merge
from tasks.store.plans import store_plan
from tasks.units import KIB, MIB
from tests.support.chains import Chain, LayerSpec, Op, build
from tests.support.merges import Stores, publish_chain

pytestmark = [pytest.mark.qemu, pytest.mark.s3]

TOLERANCE = 0.02
SLACK = 64 * KIB  # one table guessed in the wrong place


def _writes(rng: random.Random, size: int, mib: int) -> tuple[tuple[Op, int, int, int], ...]:
    """`mib` MiB in pieces of 64 KiB to 1 MiB, skewed to the front, and some zeros."""
    ops: list[tuple[Op, int, int, int]] = []
    left = mib * MIB
    while left > 0:
        length = rng.choice([64, 64, 128, 256, 1024]) * KIB
        place = int((size - length) * rng.random() ** 2) // (64 * KIB) * 64 * KIB
        ops.append(("write", place, length, rng.randrange(1, 256)))
        left -= length
    ops += [("zero", rng.randrange(0, size // MIB - 2) * MIB, 2 * MIB, 0) for _ in range(3)]
    return tuple(ops)


CHAINS = {
    "small parent under a large tip": ([30, 6, 50], ["us-east"]),
    "a run of many layers": ([20, *[6] * 7], ["us-east"]),
    "far layers, some worth a copy": ([20, 8, 30, 30], ["us-east", "eu-west", "ap-south"]),
}


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Chain]:
    """Layers of the given data, base first, on disks of 2 GiB."""
    rng = random.Random(5)
    size = 2 << 30
    return {
        name: build(
            tmp_path_factory.mktemp("chain"), [LayerSpec(size, writes=_writes(rng, size, mib)) for mib in sizes]
        )
        for name, (sizes, _) in CHAINS.items()
    }


@pytest.mark.parametrize("engine", ["rebase", "stream", "compose"])
@pytest.mark.parametrize("name", CHAINS)
def test_predicted_bytes(fleet: Fleet, stores: Stores, chains: dict[str, Chain], name: str, engine: str) -> None:
    publish_chain(fleet, stores, chains[name], "d1", CHAINS[name][1])
    inventory.run_inventory(fleet)
    plan = planning.build(fleet, planning.Options(("d1",), engine))
    store_plan(stores[fleet.control_region], plan)
    (action,) = plan.actions
    assert action.engine == engine
    receipt = apply_merge(fleet, action, "t1")
    assert receipt.outcome == "published", receipt.reason
    assert receipt.actual is not None
    _agree(action, receipt.actual)


def test_the_planner_and_the_engines_read_the_same_amounts() -> None:
    assert predict.SAMPLE_BYTES == upload.SAMPLE_BYTES
    assert predict.HEADER_BYTES == replica.HEADER_BYTES


def _agree(action: MergeAction, actual: Cost) -> None:
    said = action.cost
    for name in ("read_bytes", "write_bytes", "copy_bytes"):
        predicted, counted = getattr(said, name), getattr(actual, name)
        assert set(predicted) == set(counted), (name, predicted, counted)
        for region, count in counted.items():
            off = abs(predicted[region] - count)
            assert off <= TOLERANCE * count + SLACK, (name, region, predicted[region], count)
    assert abs(said.requests - actual.requests) <= 0.1 * actual.requests
    assert said.egress_usd == pytest.approx(actual.egress_usd, rel=0.05, abs=1e-5)
