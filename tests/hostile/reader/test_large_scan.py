"""A scan of 10,000 layers, one in a hundred hostile, on the real object store: it completes and the rest is exact."""

import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.compute as pc
import pytest

from tasks.chain.layer import layer_id_of
from tasks.inventory import manifest, parquet
from tasks.inventory.schema import EXTENTS, LAYERS
from tasks.settings import Fleet
from tasks.stages import inventory
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store
from tests.support.hostile_layers import hostile_layers
from tests.support.qcow2_bytes import chain, extents_in_chain

pytestmark = [pytest.mark.s3, pytest.mark.slow, pytest.mark.timeout(1200)]

CHAINS, LENGTH, HOSTILE = 33, 300, 100


def test_ten_thousand_layers(fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path) -> None:
    expected: dict[str, int] = {}
    files: dict[str, bytes] = {}
    for _ in range(CHAINS):
        names = [f"{uuid.uuid4().hex}.qcow2" for _ in range(LENGTH)]
        files |= chain(LENGTH, names)
        expected |= {str(layer_id_of(name)): number for number, name in enumerate(names)}
    reasons = {}
    for body, reason in hostile_layers(random.Random(3), HOSTILE):
        layer = uuid.uuid4().hex
        files[f"{layer}.qcow2"] = body
        reasons[layer] = reason
    regions = list(stores)
    with ThreadPoolExecutor(32) as pool:
        jobs = enumerate(files.items())
        list(pool.map(lambda job: stores[regions[job[0] % 3]].put_new(f"{keys.LAYERS}{job[1][0]}", job[1][1]), jobs))

    result = inventory.run_inventory(fleet)

    assert (result["complete"], result["layers"], result["refused"]) == (True, CHAINS * LENGTH + HOSTILE, HOSTILE)
    assert sum(scan["requests"] for scan in result["scans"]) <= len(files)
    control = control_store(fleet)
    snapshot = manifest.current_snapshot(control)
    assert snapshot is not None
    folder = manifest.stage(control, snapshot, tmp_path)
    layers = parquet.read_files(sorted((folder / "layers").iterdir()), LAYERS)
    extents = parquet.read_files(sorted((folder / "extents").iterdir()), EXTENTS)
    found = dict(zip(layers["layer_id"].to_pylist(), layers["reason"].to_pylist(), strict=True))
    assert found == {**reasons, **dict.fromkeys(expected)}
    names = dict(zip(layers["layer_no"].to_pylist(), layers["layer_id"].to_pylist(), strict=True))
    rows: dict[str, list[tuple[int, ...]]] = {name: [] for name in expected}
    for number, *extent in zip(*(column.to_pylist() for column in extents.columns), strict=True):
        rows[names[number]].append(tuple(extent))
    assert rows == {name: extents_in_chain(number) for name, number in expected.items()}
    roots = layers.filter(pc.and_(pc.equal(layers["status"], "ok"), pc.is_null(layers["parent_no"])))
    assert len(roots) == CHAINS
