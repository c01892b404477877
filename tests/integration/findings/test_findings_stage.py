"""After an inventory of a real fleet: derive, check, publish; the command line answers from the current snapshot."""

import json
import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.analytics.derive import is_derived
from tasks.analytics.duck import open_manifest
from tasks.analytics.published import record_key
from tasks.analytics.queries import find, run
from tasks.embedded.s3 import S3Server
from tasks.errors import NotFound, Refused
from tasks.inventory.manifest import current_snapshot, stage
from tasks.settings import Fleet
from tasks.stages import findings, inventory
from tasks.store import keys
from tasks.store.connect import control_store, open_stores
from tests.conftest import make_fleet
from tests.support.chains import Chain, LayerSpec, build, random_specs, tool
from tests.support.cli import chainwright_here, write_fleet_toml
from tests.support.merges import publish_chain

pytestmark = [pytest.mark.s3, pytest.mark.qemu]
SPECS = {  # what a disk's layers are made of
    "plain": LayerSpec(12 << 20),
    "coarse": LayerSpec(12 << 20, cluster_size=1 << 20),
    "fine": LayerSpec((12 << 20) + 4608, cluster_size=4096),
    "split": LayerSpec(12 << 20, extended_l2=True),
    "old": LayerSpec(12 << 20, version=2),
}


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Chain]:
    """A real chain per kind, made by qemu-img and qemu-io."""
    rng = random.Random(8)
    folder = tmp_path_factory.mktemp("chains")
    return {disk: build(folder / disk, random_specs(rng, 6, spec, writes=5)) for disk, spec in SPECS.items()}


@pytest.fixture(scope="module")
def scanned(s3_server: S3Server, chains: dict[str, Chain], tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The chains in the stores, inventoried."""
    fleet = make_fleet(s3_server, tmp_path_factory.mktemp("fleet") / "work")
    stores = open_stores(fleet)
    for disk, chain in chains.items():
        publish_chain(fleet, stores, chain, disk, [])
    inventory.run_inventory(fleet)
    return fleet


@pytest.mark.parametrize("disk", sorted(SPECS))
def test_visible_bytes_are_those_that_qemu_maps(scanned: Fleet, chains: dict[str, Chain], disk: str) -> None:
    folder, _ = findings.staged(scanned)
    with open_manifest(folder) as connection:
        rows = run(connection, find("visible_by_head"), {"disk_id": disk}).dicts()
    chain = chains[disk]
    argv = ["qemu-img", "map", "--output=json", "-f", "qcow2", str(chain.path(chain.tip))]
    mapped: Counter[str] = Counter()
    for extent in json.loads(tool(argv, chain.folder)):
        if extent["data"] and extent["present"]:
            mapped[chain.layers[-1 - extent["depth"]]] += extent["length"]
    ours = {row["layer_id"]: row["visible_data_bytes"] + row["visible_compressed_bytes"] for row in rows}
    assert [row["layer_id"] for row in rows] == chain.layers
    assert {layer: count for layer, count in ours.items() if count} == dict(mapped)


def test_derived_once_and_fetched_by_others(scanned: Fleet, tmp_path: Path) -> None:
    first = findings.run(scanned)
    control = control_store(scanned)
    assert control.info(record_key(first["snapshot_id"])).size > 0
    assert first["checks"] == []
    other = scanned.model_copy(update={"work_dir": str(tmp_path / "other")})
    again = findings.run(other)
    assert (again["snapshot_id"], again["worked_layers"], again["published"]) == (first["snapshot_id"], 0, False)
    assert is_derived(findings.staged(other)[0])


@pytest.fixture
def one_disk(s3_server: S3Server, chains: dict[str, Chain], tmp_path: Path) -> Fleet:
    """A fleet of its own, not inventoried yet."""
    fleet = make_fleet(s3_server, tmp_path / "work")
    publish_chain(fleet, open_stores(fleet), chains["plain"], "disk", [])
    return fleet


def test_a_manifest_that_contradicts_itself_is_not_analysed(one_disk: Fleet) -> None:
    snapshot_id = inventory.run_inventory(one_disk)["snapshot_id"]
    control = control_store(one_disk)
    snapshot = current_snapshot(control)
    assert snapshot is not None
    file = next((stage(control, snapshot, findings.cache_of(one_disk)) / "heads").glob("*.parquet"))
    rows = pq.read_table(file)
    pq.write_table(pa.concat_tables([rows, rows]), file)
    with pytest.raises(Refused, match="check_failed: manifest: heads: disk_id is unique: 1 rows, such as disk"):
        findings.run(one_disk)
    with pytest.raises(NotFound):
        control.info(record_key(snapshot_id))


def test_a_scan_brings_its_findings_along(one_disk: Fleet, tmp_path: Path) -> None:
    control_store(one_disk).put_new(f"{keys.HEADS}lost.json", b"nonsense")
    toml = write_fleet_toml(one_disk, tmp_path / "fleet.toml")
    result = chainwright_here("scan", "--json", "--fleet", toml).json
    assert [check["rule"] for check in result["findings"]["checks"]] == ["every head can be read"]
    assert result["findings"]["published"]
    said = chainwright_here("scan", "--fleet", toml)
    assert (said.code, "warn: heads: every head can be read: 1 rows, such as lost" in said.out) == (0, True)


def test_the_command_line_answers_from_the_current_snapshot(scanned: Fleet, tmp_path: Path) -> None:
    toml = write_fleet_toml(scanned, tmp_path / "fleet.toml")
    rows = chainwright_here("query", "chain_length", "--json", "--fleet", toml).json["rows"]
    assert {row["disk_id"]: row["layers"] for row in rows} == dict.fromkeys(SPECS, 6)
    text = "SELECT count(*) AS n FROM shadow_layers"
    assert chainwright_here("sql", "--fleet", toml, "--json", "-c", text).json == [{"n": 6 * len(SPECS)}]


def test_before_the_first_scan(fleet: Fleet, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no manifest yet; run `chainwright scan`"):
        findings.run(fleet)
    toml = write_fleet_toml(fleet, tmp_path / "fleet.toml")
    assert "no manifest yet" in chainwright_here("query", "chain_length", "--fleet", toml).line
