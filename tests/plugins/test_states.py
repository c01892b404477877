"""Missing manifest, unreachable store, half-finished snapshot: the page says what, and since when."""

import datetime
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import ConfigError, NotFound, Transient
from tasks.settings import Fleet

pytestmark = pytest.mark.airflow

NOON = datetime.datetime(2026, 5, 1, 12, 0, tzinfo=datetime.UTC)


@dataclass
class Scripted:
    """A source whose next answers a test sets."""

    described: Fleet
    folder: Path
    published: str | None = None
    begun: Any = None
    broken: Exception | None = None
    parts_missing: bool = False

    def fleet(self) -> Fleet:
        if isinstance(self.broken, ConfigError):
            raise self.broken
        return self.described

    def current(self, fleet: Fleet) -> Any:
        from plugins.chain_view.snapshots import Found

        if self.broken:
            raise self.broken
        return Found(self.published, NOON, None) if self.published else None

    def unpublished(self, fleet: Fleet, published: Any) -> Any:
        return self.begun

    def stage(self, fleet: Fleet, found: Any) -> Path:
        if self.parts_missing:
            raise NotFound("manifests/x/layers-0.parquet: no such object")
        return self.folder


@pytest.fixture
def source(trial_fleet: Fleet, plain_manifest: Path) -> Scripted:
    return Scripted(trial_fleet, plain_manifest)


def holder_on(source: Scripted) -> Any:
    from plugins.chain_view.snapshots import SnapshotHolder

    return SnapshotHolder(source)


def look_again(holder: Any) -> None:
    holder.recheck(wait_seconds=30)


def problem_of(client: Any) -> Any:
    """Of the status, after checking that a table tells the same."""
    status = client.get("/api/status").json()
    table = client.get("/api/query/chain_length")
    assert table.status_code == 503
    assert table.json()["problem"] == status["problem"]
    return status["problem"]


def test_no_manifest_yet(source: Scripted, client_of: Any) -> None:
    problem = problem_of(client_of(holder_on(source)))
    assert problem["code"] == "no_manifest"
    assert "chain_inventory" in problem["detail"]
    assert problem["since"]


def test_the_first_inventory_is_under_way(source: Scripted, client_of: Any) -> None:
    from plugins.chain_view.snapshots import Unpublished

    source.begun = Unpublished("20260501T110000-aa", NOON)
    problem = problem_of(client_of(holder_on(source)))
    assert "20260501T110000-aa" in problem["detail"]
    assert problem["since"] == NOON.isoformat()


def test_the_store_cannot_be_reached_at_first(source: Scripted, client_of: Any) -> None:
    source.broken = Transient("http://127.0.0.1:9 bucket: Could not connect")
    problem = problem_of(client_of(holder_on(source)))
    assert problem["code"] == "store_unreachable"
    assert "Could not connect" in problem["detail"]
    assert problem["since"]


def test_the_fleet_file_is_wrong(source: Scripted, client_of: Any) -> None:
    source.broken = ConfigError("fleet.toml: regions.0.name: wrong")
    problem = problem_of(client_of(holder_on(source)))
    assert (problem["code"], problem["detail"]) == ("fleet", "fleet.toml: regions.0.name: wrong")


def test_a_part_of_the_first_snapshot_is_missing(source: Scripted, client_of: Any) -> None:
    source.published, source.parts_missing = "20260501T120000-bb", True
    problem = problem_of(client_of(holder_on(source)))
    assert problem["code"] == "snapshot_incomplete"
    assert "20260501T120000-bb" in problem["detail"]
    assert "layers-0.parquet" in problem["detail"]


def test_the_last_good_snapshot_stays_while_the_store_is_away(source: Scripted, client_of: Any) -> None:
    source.published = "20260501T120000-bb"
    holder = holder_on(source)
    client = client_of(holder)
    assert client.get("/api/status").json()["warning"] is None
    source.broken = Transient("the store is away")
    look_again(holder)
    first = client.get("/api/status").json()
    assert first["snapshot"]["id"] == "20260501T120000-bb"
    assert first["warning"]["code"] == "store_unreachable"
    assert client.get("/api/query/chain_length").status_code == 200
    look_again(holder)
    assert client.get("/api/status").json()["warning"]["since"] == first["warning"]["since"]
    source.broken = None
    look_again(holder)
    assert client.get("/api/status").json()["warning"] is None


def test_the_first_snapshot_is_shown_before_its_pages_are_prepared(source: Scripted, client_of: Any) -> None:
    from plugins.chain_view.snapshots import SnapshotHolder

    asked: list[str] = []
    shown = threading.Event()

    def prepare(_: Fleet, staged: Any) -> None:
        asked.append(staged.snapshot_id)
        assert shown.wait(30)

    source.published = "20260501T120000-bb"
    holder = SnapshotHolder(source, prepare)
    assert client_of(holder).get("/api/status").json()["snapshot"]["id"] == "20260501T120000-bb"
    shown.set()
    look_again(holder)
    assert asked == ["20260501T120000-bb"]


def test_a_half_finished_newer_snapshot_is_told_and_not_shown(source: Scripted, client_of: Any) -> None:
    from plugins.chain_view.snapshots import Unpublished

    source.published = "20260501T120000-bb"
    source.begun = Unpublished("20260501T130000-cc", NOON)
    status = client_of(holder_on(source)).get("/api/status").json()
    assert status["snapshot"]["id"] == "20260501T120000-bb"
    assert status["warning"]["code"] == "inventory_open"
    assert status["warning"]["since"] == NOON.isoformat()


def test_a_newer_snapshot_with_a_missing_part_leaves_the_old_one_in_view(source: Scripted, client_of: Any) -> None:
    source.published = "20260501T120000-bb"
    holder = holder_on(source)
    client = client_of(holder)
    client.get("/api/status")
    source.published, source.parts_missing = "20260501T130000-cc", True
    look_again(holder)
    status = client.get("/api/status").json()
    assert status["snapshot"]["id"] == "20260501T120000-bb"
    assert status["warning"]["code"] == "snapshot_incomplete"


def test_a_disk_is_shown_although_its_head_cannot_be_read(plain: Any, client_of: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    client = client_of(plain)
    name = client.get("/api/query/chain_length").json()["rows"][0]["disk_id"]
    assert client.get("/api/disk", params={"disk": name}).json()["known"]["disk_id"] == name
    head = client.get("/api/head", params={"disk": name}).json()
    assert head["head"] is None
    assert head["problem"]["code"] == "head_unreadable"
    assert client.get("/api/plans").json()["problem"]["code"] == "store_unreachable"


def test_an_empty_manifest_gives_empty_tables(trial_fleet: Fleet, tmp_path: Path, client_of: Any) -> None:
    from tasks.analytics import queries
    from tests.plugins.conftest import holder_of

    client = client_of(holder_of(tmp_path, trial_fleet))
    for name, query in queries.queries().items():
        needed = {p.name: "x" for p in query.parameters if p.default is None and p.type == "VARCHAR"}
        answer = client.get(f"/api/query/{name}", params=needed)
        assert answer.status_code == 200, (name, answer.text)
