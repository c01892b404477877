"""The whole inventory on the real object store: three regions, hostile layers among good ones, the command line."""

import json
import random
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.chain.layer import layer_id_of
from tasks.errors import ConfigError, NotFound, Permanent
from tasks.inventory import manifest, parquet
from tasks.inventory.append import append_dataset_files
from tasks.inventory.schema import DATASETS, READS
from tasks.settings import Fleet
from tasks.stages import inventory
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store
from tests.support.hostile_layers import hostile_layers
from tests.support.qcow2_bytes import DATA, Image, build, chain, extents_in_chain

pytestmark = pytest.mark.s3

LAYERS, HOSTILE = 495, 5


def names(count: int) -> list[str]:
    return [f"{uuid.uuid4().hex}.qcow2" for _ in range(count)]


def upload(stores: dict[str, ObjectStore], files: dict[str, bytes]) -> None:
    regions = list(stores)
    with ThreadPoolExecutor(16) as pool:
        jobs = enumerate(files.items())
        list(pool.map(lambda job: stores[regions[job[0] % 3]].put_new(f"{keys.LAYERS}{job[1][0]}", job[1][1]), jobs))


def rows_of(fleet: Fleet, dataset: str, cache: Path) -> pa.Table:
    control = control_store(fleet)
    snapshot = manifest.current_snapshot(control)
    assert snapshot is not None
    folder = manifest.stage(control, snapshot, cache)
    return parquet.read_files(sorted((folder / dataset).glob("*.parquet")), DATASETS[dataset])


def test_five_hundred_layers_one_in_a_hundred_hostile(
    fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path
) -> None:
    good = names(LAYERS)
    files = chain(LAYERS, good)
    bad = dict(zip(names(HOSTILE), hostile_layers(random.Random(1), HOSTILE * 5)[::5], strict=True))
    upload(stores, files | {name: body for name, (body, _) in bad.items()})
    result = inventory.run_inventory(fleet)
    assert (result["complete"], result["layers"], result["refused"]) == (True, LAYERS + HOSTILE, HOSTILE)
    assert sum(scan["requests"] for scan in result["scans"]) <= LAYERS + HOSTILE
    layers = {row["layer_id"]: row for row in rows_of(fleet, "layers", tmp_path).to_pylist()}
    for name, (_, reason) in bad.items():
        assert layers[str(layer_id_of(name))]["reason"] == reason
    numbers = {layers[str(layer_id_of(name))]["layer_no"]: n for n, name in enumerate(good)}
    found: dict[int, list[tuple[int, ...]]] = {}
    for number, *extent in zip(*(c.to_pylist() for c in rows_of(fleet, "extents", tmp_path).columns), strict=True):
        found.setdefault(numbers[number], []).append(tuple(extent))
    for n in range(LAYERS):
        assert found[n] == extents_in_chain(n)
        parent = layers[str(layer_id_of(good[n]))]["parent_no"]
        assert parent == (layers[str(layer_id_of(good[n - 1]))]["layer_no"] if n else None)
    again = inventory.run_inventory(fleet)
    assert [(scan["new"], scan["requests"]) for scan in again["scans"]] == [(0, 0)] * 3


def test_a_region_that_does_not_answer_keeps_its_rows(fleet: Fleet, stores: dict[str, ObjectStore]) -> None:
    upload(stores, chain(6, names(6)))
    inventory.run_inventory(fleet)
    broken = fleet.model_copy(
        update={
            "regions": tuple(
                region.model_copy(update={"bucket": "no-such-bucket"}) if region.name == "eu-west" else region
                for region in fleet.regions
            )
        }
    )
    result = inventory.run_inventory(broken)
    assert not result["complete"]
    assert "no-such-bucket" in result["errors"]["eu-west"]
    assert result["layers"] == 6


def test_a_work_directory_that_cannot_be_used(fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path) -> None:
    upload(stores, chain(1, names(1)))
    (tmp_path / "file").write_text("")
    broken = fleet.model_copy(update={"work_dir": str(tmp_path / "file" / "work")})
    with pytest.raises(Permanent, match=r"work directory .*file/work: Not a directory"):
        inventory.run_inventory(broken)
    assert manifest.current_snapshot(control_store(fleet)) is None


def test_reads_are_appended_and_survive_the_next_scan(
    fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path
) -> None:
    control = control_store(fleet)
    file = tmp_path / "reads.parquet"
    parquet.write_table(file, pa.Table.from_pylist([{"layer_id": "x", "requests": 3}], schema=READS))
    with pytest.raises(NotFound, match="chainwright scan"):
        append_dataset_files(control, "reads", [file])
    upload(stores, chain(2, names(2)))
    inventory.run_inventory(fleet)
    append_dataset_files(control, "reads", [file])
    append_dataset_files(control, "reads", [file])
    inventory.run_inventory(fleet)
    assert rows_of(fleet, "reads", tmp_path / "cache")["requests"].to_pylist() == [3, 3]
    with pytest.raises(ConfigError, match="layers"):
        append_dataset_files(control, "layers", [file])
    with pytest.raises(ConfigError, match="columns"):
        append_dataset_files(control, "boot_traces", [file])


def test_receipts_of_finished_actions(fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path) -> None:
    control = control_store(fleet)
    receipt = {
        "state": "done",
        "outcome": "published",
        "action": {
            "action_id": "a1",
            "disk_id": "vm",
            "engine": "rebase",
            "cost": {"read_bytes": {"us-east": 5, "eu-west": 7}, "write_bytes": {}, "seconds": 1.5},
            "benefit": {"freed_bytes": 9},
            "run": [{"layer_id": "b", "size_bytes": 30}, {"layer_id": "c", "size_bytes": 12}],
            "above": [{"layer_id": "a", "size_bytes": 5}],
        },
        "actual": {"read_bytes": {"us-east": 11}, "write_bytes": {"us-east": 2}, "seconds": 2.5, "egress_usd": 0.25},
        "layers_before": 4,
        "layers_after": 2,
        "finished_at": "2026-01-02T03:04:05+00:00",
        "extra": {"published_by": "t2", "ready": {"t1": {"new_bytes": 99}, "t2": {"new_bytes": 20}}},
    }
    intent = {**receipt, "state": "intent", "action": {**receipt["action"], "action_id": "a2"}}
    etags = {}
    for action_id, body in (("a1", receipt), ("a2", intent)):
        etags[action_id] = control.put_new(keys.action(action_id), json.dumps(body).encode())
    control.put_new(keys.action("junk"), b"[1, 2]")
    inventory.run_inventory(fleet)
    row = rows_of(fleet, "receipts", tmp_path).to_pylist()
    assert [r["action_id"] for r in row] == ["a1"]
    assert (row[0]["predicted_read_bytes"], row[0]["actual_read_bytes"], row[0]["predicted_write_bytes"]) == (12, 11, 0)
    assert (row[0]["engine"], row[0]["outcome"], row[0]["egress_usd"]) == ("rebase", "published", 0.25)
    assert (row[0]["replaced_layer_ids"], row[0]["replaced_bytes"], row[0]["new_bytes"]) == (["b", "c", "a"], 47, 20)
    done = json.dumps({**intent, "state": "done"}).encode()
    control.put_if_match(keys.action("a2"), done, etags["a2"])
    inventory.run_inventory(fleet)
    assert rows_of(fleet, "receipts", tmp_path)["action_id"].to_pylist() == ["a1", "a2"]


@pytest.fixture
def fleet_file(fleet: Fleet, tmp_path: Path) -> Path:
    lines = [f'control_region = "{fleet.control_region}"', f'work_dir = "{fleet.work_dir}"']
    for region in fleet.regions:
        lines += ["[[regions]]", f'name = "{region.name}"', f'endpoint = "{region.endpoint}"']
        lines += [f'bucket = "{region.bucket}"']
    path = tmp_path / "fleet.toml"
    path.write_text("\n".join(lines))
    return path


def chainwright(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from tasks.cli.main import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=280)


def test_scan_and_inspect_on_the_command_line(fleet_file: Path, stores: dict[str, ObjectStore], tmp_path: Path) -> None:
    layer_names = names(3)
    upload(stores, chain(3, layer_names))
    bad = names(1)[0]
    upload(stores, {bad: build(Image({}, backing="/etc/passwd"))})
    done = chainwright("scan", "--json", "--fleet", str(fleet_file))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["layers"] == 4
    done = chainwright("scan", "--fleet", str(fleet_file))
    assert "4 layers" in done.stdout
    layer = str(layer_id_of(layer_names[1]))
    done = chainwright("inspect", layer, "--json", "--extents", "--fleet", str(fleet_file))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["facts"]["backing_file"] == layer_names[0]
    assert [extent["kind"] for extent in answer["extents"]] == ["data", "zero", "zero_allocated"]
    done = chainwright("inspect", str(layer_id_of(bad)), "--fleet", str(fleet_file))
    assert (done.returncode, "backing_absolute" in done.stdout) == (1, True)
    done = chainwright("inspect", "0" * 32, "--fleet", str(fleet_file))
    assert (done.returncode, "is in no region" in done.stderr) == (1, True)
    local = tmp_path / "local.qcow2"
    local.write_bytes(build(Image({5: DATA})))
    done = chainwright("inspect", str(local))
    assert (done.returncode, "2560" in done.stdout) == (0, True)
    done = chainwright("inspect", str(tmp_path / "nothing.qcow2"))
    assert (done.returncode, "No such file" in done.stderr) == (1, True)
