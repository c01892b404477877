"""Snapshots of a real store: published, begun, half gone."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.inventory import manifest
from tasks.inventory.schema import LAYERS
from tasks.inventory.snapshot import FileRef, Snapshot
from tasks.settings import Fleet
from tasks.store.base import ObjectStore
from tasks.store.connect import control_store

NOBODY = "http://127.0.0.1:9"  # no store listens there

pytestmark = [pytest.mark.airflow, pytest.mark.s3]


def write_part(control: ObjectStore, key: str, folder: Path) -> FileRef:
    """One layers file in the store, and its reference."""
    file = folder / "part.parquet"
    pq.write_table(pa.Table.from_pylist([{"layer_no": 0, "layer_id": "a" * 32, "region": "us-east"}], LAYERS), file)
    body = file.read_bytes()
    control.put_new(key, body)
    return FileRef(key, len(body), 1, hashlib.sha256(body).hexdigest())


def publish(control: ObjectStore, snapshot_id: str, files: tuple[FileRef, ...]) -> None:
    when = f"{snapshot_id[:4]}-{snapshot_id[4:6]}-{snapshot_id[6:8]}T00:00:00+00:00"
    snapshot = Snapshot(snapshot_id, when, None, 1, {"layers": files})
    manifest.publish_snapshot(control, snapshot, manifest.read_pointer(control))


@pytest.fixture
def holder(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Any:
    from plugins.chain_view.snapshots import SnapshotHolder
    from plugins.chain_view.source import StoreSource

    source = StoreSource()
    monkeypatch.setattr(source, "fleet", lambda: fleet)
    return SnapshotHolder(source)


def look_again(holder: Any) -> None:
    holder.recheck(wait_seconds=30)


def test_from_an_empty_bucket_to_the_second_snapshot(
    holder: Any, fleet: Fleet, tmp_path: Path, client_of: Any, airflow_home: Path
) -> None:
    client = client_of(holder)
    control = control_store(fleet)
    assert client.get("/api/status").json()["problem"]["code"] == "no_manifest"

    part = write_part(control, "manifests/20260101T000000-aa/layers-0.parquet", tmp_path)
    look_again(holder)
    begun = client.get("/api/status").json()["problem"]
    assert begun["code"] == "no_manifest"
    assert "20260101T000000-aa" in begun["detail"]
    assert begun["since"]

    publish(control, "20260101T000000-aa", (part,))
    look_again(holder)
    status = client.get("/api/status").json()
    assert (status["problem"], status["snapshot"]["id"]) == (None, "20260101T000000-aa")

    control.put_new("manifests/20260102T000000-bb/layers-0.parquet", b"half")
    look_again(holder)
    status = client.get("/api/status").json()
    assert status["snapshot"]["id"] == "20260101T000000-aa"
    assert status["warning"]["code"] == "inventory_open"
    assert "20260102T000000-bb" in status["warning"]["detail"]

    lost = FileRef("manifests/20260103T000000-cc/layers-0.parquet", 10, 1, "0" * 64)
    publish(control, "20260103T000000-cc", (lost,))
    look_again(holder)
    status = client.get("/api/status").json()
    assert status["snapshot"]["id"] == "20260101T000000-aa"
    assert status["warning"]["code"] == "snapshot_incomplete"
    assert "layers-0.parquet" in status["warning"]["detail"]


def test_a_store_that_goes_away_and_comes_back(
    holder: Any, fleet: Fleet, tmp_path: Path, client_of: Any, airflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = control_store(fleet)
    publish(control, "20260101T000000-aa", (write_part(control, "manifests/20260101T000000-aa/l-0.parquet", tmp_path),))
    away = fleet.model_copy(
        update={"regions": tuple(region.model_copy(update={"endpoint": NOBODY}) for region in fleet.regions)}
    )
    client = client_of(holder)
    monkeypatch.setattr(holder._source, "fleet", lambda: away)
    look_again(holder)
    problem = client.get("/api/status").json()["problem"]
    assert problem["code"] == "store_unreachable"
    assert NOBODY in problem["detail"]
    assert problem["since"]

    monkeypatch.setattr(holder._source, "fleet", lambda: fleet)
    look_again(holder)
    assert client.get("/api/status").json()["problem"] is None

    monkeypatch.setattr(holder._source, "fleet", lambda: away)
    look_again(holder)
    status = client.get("/api/status").json()
    assert status["snapshot"]["id"] == "20260101T000000-aa"
    assert status["warning"]["code"] == "store_unreachable"
    assert status["warning"]["since"] > problem["since"]
    assert client.get("/api/query/chain_length").status_code == 200


def test_plans_and_receipts_come_from_the_store(plain: Any, fleet: Fleet, client_of: Any, plain_manifest: Path) -> None:
    from tasks.plan.steps import Cost, Plan, Skip
    from tasks.store.plans import store_plan
    from tests.plugins.conftest import holder_of

    control = control_store(fleet)
    client = client_of(holder_of(plain_manifest, fleet))
    assert client.get("/api/plans").json() == []
    skips = tuple(Skip(f"disk-{n}", "keep_layers", "<b>why</b>") for n in range(30))
    store_plan(control, Plan("plan-20260101000000-aa", "s1", "2026-01-01T00:00:00+00:00", (), skips, Cost()))
    assert [plan["plan_id"] for plan in client.get("/api/plans").json()] == ["plan-20260101000000-aa"]
    plan = client.get("/api/plan", params={"plan_id": "plan-20260101000000-aa"}).json()
    assert (plan["total"], plan["skipped"], plan["skips"][0]["count"]) == (0, 30, 30)
    assert {row["name"] for row in plan["budgets"]} >= {"actions", "read_bytes", "egress_usd"}
    page = client.get("/api/skips", params={"plan_id": plan["plan_id"], "offset": 25, "limit": 10}).json()
    assert [row["disk_id"] for row in page["rows"]] == [f"disk-{n}" for n in range(25, 30)]
    assert client.get("/api/plan", params={"plan_id": "no-such-plan"}).status_code == 404

    control.put_new("actions/merge-1.json", b'{"state": "done", "outcome": "published"}')
    receipt = client.get("/api/receipt/merge-1").json()
    assert receipt["receipt"] == {"state": "done", "outcome": "published"}
    assert receipt["written_at"]
    assert client.get("/api/receipt/merge-2").status_code == 404
