"""Tables: paged, sorted and filtered by the server; downloads; hostile names stay text, values stay bound."""

import csv
import io
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.inventory.schema import HEADS
from tasks.settings import Fleet
from tests.plugins.conftest import holder_of

pytestmark = pytest.mark.airflow


def rows(client: Any, **query: Any) -> list[dict[str, Any]]:
    answer = client.get("/api/query/chain_length", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["rows"])


def test_pages_cover_all_rows_once(plain: Any, client_of: Any) -> None:
    client = client_of(plain)
    total = client.get("/api/query/chain_length").json()["total"]
    seen: list[str] = []
    for offset in range(0, total, 30):
        page = rows(client, offset=offset, limit=30, sort="regions")
        assert len(page) == min(30, total - offset)
        seen += [row["disk_id"] for row in page]
    assert len(seen) == len(set(seen)) == total


def test_a_page_beyond_the_end_is_empty_and_knows_the_total(plain: Any, client_of: Any) -> None:
    answer = client_of(plain).get("/api/query/chain_length", params={"offset": 100_000}).json()
    assert answer["rows"] == []
    assert answer["total"] > 0


def test_nothing_loads_more_than_a_page(plain: Any, client_of: Any) -> None:
    client = client_of(plain)
    assert client.get("/api/query/chain_length", params={"limit": 1001}).status_code == 422
    assert client.get("/api/query/chain_length", params={"offset": -1}).status_code == 422


def test_sorting_is_by_value(plain: Any, client_of: Any) -> None:
    client = client_of(plain)
    up = [row["layers"] for row in rows(client, sort="layers", limit=500) if row["layers"] is not None]
    down = [row["layers"] for row in rows(client, sort="layers", desc=True, limit=500) if row["layers"] is not None]
    assert up == sorted(up)
    assert down == sorted(up, reverse=True)


def test_filter_finds_a_part_of_a_name(plain: Any, client_of: Any) -> None:
    client = client_of(plain)
    name = rows(client)[3]["disk_id"]
    assert name in {row["disk_id"] for row in rows(client, filter=name[1:].upper())}
    assert rows(client, filter="no such disk") == []


@pytest.mark.parametrize("text", ["'", '"; DROP VIEW heads; --', "%", "$1", "\\", "' OR 1=1 --", "\u202e"])
def test_filters_are_values_and_never_sql(plain: Any, client_of: Any, text: str) -> None:
    client = client_of(plain)
    answer = client.get("/api/query/chain_length", params={"filter": text})
    assert answer.status_code == 200
    assert answer.json()["total"] == 0


@pytest.mark.parametrize("text", ["layers; DROP VIEW heads", "1", "layers DESC", 'layers" --', "no_such"])
def test_only_columns_sort(plain: Any, client_of: Any, text: str) -> None:
    answer = client_of(plain).get("/api/query/chain_length", params={"sort": text})
    assert answer.status_code == 400
    assert "no column" in answer.json()["problem"]["detail"]


@pytest.mark.parametrize("name", ["nothing", "../secrets", "heads", "chain_length;"])
def test_only_queries_of_the_folder_run(plain: Any, client_of: Any, name: str) -> None:
    client = client_of(plain)
    for kind in ("query", "sql", "download"):
        answer = client.get(f"/api/{kind}/{name}")
        assert answer.status_code == 404, (kind, answer.text)


def test_unknown_and_wrong_parameters_are_named(plain: Any, client_of: Any) -> None:
    client = client_of(plain)
    unknown = client.get("/api/query/chain_length", params={"colour": "red"})
    assert (unknown.status_code, "colour" in unknown.json()["problem"]["detail"]) == (404, True)
    wrong = client.get("/api/query/chain_length", params={"max_chain_length": "many"})
    assert (wrong.status_code, "max_chain_length" in wrong.json()["problem"]["detail"]) == (400, True)


def test_hostile_names_come_back_as_they_are(hostile: Any, client_of: Any) -> None:
    client = client_of(hostile)
    found = rows(client, limit=500)
    names = [row["disk_id"] for row in found]
    strange = [name for name in names if any(mark in name for mark in "<'\"\u202e;")]
    assert strange
    for name in strange:
        answer = client.get("/api/disk", params={"disk": name})
        assert answer.status_code == 200, answer.text
        assert answer.json()["known"]["disk_id"] == name
        assert answer.headers["content-type"] == "application/json"


def test_hostile_names_survive_both_downloads(hostile: Any, client_of: Any) -> None:
    client = client_of(hostile)
    names = {row["disk_id"] for row in rows(client, limit=500)}
    parquet = client.get("/api/download/chain_length", params={"format": "parquet"})
    assert set(pq.read_table(io.BytesIO(parquet.content))["disk_id"].to_pylist()) == names
    text = client.get("/api/download/chain_length", params={"format": "csv"})
    assert text.headers["content-disposition"].startswith("attachment; ")
    assert {row["disk_id"].removeprefix("'") for row in csv.DictReader(io.StringIO(text.text))} == {
        name.removeprefix("'") for name in names
    }


def test_no_cell_of_a_csv_is_a_formula(trial_fleet: Fleet, tmp_path: Path, client_of: Any) -> None:
    formulas = ["=cmd|' /C calc'!A0", "+1+2", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", '=1,"2"']
    plain_names = ["vm-1", "a=b", "1-2", "x@y"]
    heads = [dict.fromkeys(HEADS.names) | {"disk_id": name} for name in formulas + plain_names]
    (tmp_path / "heads").mkdir()
    pq.write_table(pa.Table.from_pylist(heads, schema=HEADS), tmp_path / "heads/part-0.parquet")
    client = client_of(holder_of(tmp_path, trial_fleet))
    text = client.get("/api/download/chain_length", params={"format": "csv"}).text
    found = [row["disk_id"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    assert sorted(found) == sorted([*plain_names, *(f"'{name}" for name in formulas)])


def test_downloads_take_filter_and_order(plain: Any, client_of: Any) -> None:
    client = client_of(plain)
    query = {"filter": "us-", "sort": "layers", "desc": True}
    shown = [row["disk_id"] for row in rows(client, limit=500, **query)]
    text = client.get("/api/download/chain_length", params={"format": "csv", **query}).text
    assert [row["disk_id"] for row in csv.DictReader(io.StringIO(text))] == shown


def test_the_sql_of_every_table_is_shown_as_the_file_has_it(plain: Any, client_of: Any) -> None:
    client = client_of(plain)
    listed = client.get("/api/queries").json()
    assert {"chain_length", "receipts", "outcomes"} <= {query["name"] for query in listed}
    for query in listed:
        needed = {p["name"]: "x" for p in query["parameters"] if p["default"] is None and p["type"] == "VARCHAR"}
        shown = client.get(f"/api/sql/{query['name']}", params=needed).json()
        assert shown["sql"] == Path(shown["file"]).read_text()
        assert query["name"] in shown["command"]


def test_the_command_of_a_table_is_safe_to_paste(plain: Any, client_of: Any) -> None:
    disk = "$(touch x); 'rm' `id`"
    shown = client_of(plain).get("/api/sql/disk_chain", params={"disk_id": disk}).json()
    assert shlex.split(shown["command"]) == ["chainwright", "query", "disk_chain", "--set", f"disk_id={disk}"]


def test_an_unknown_disk_is_told_apart_from_a_broken_page(plain: Any, client_of: Any) -> None:
    answer = client_of(plain).get("/api/disk", params={"disk": "no-such-disk"})
    assert answer.json() == {"disk_id": "no-such-disk", "known": None}


@pytest.mark.parametrize("action", ["../heads/x", "a/b", "..", "%00", "x" * 300])
def test_receipts_are_asked_for_by_name_only(plain: Any, client_of: Any, action: str) -> None:
    from urllib.parse import quote

    answer = client_of(plain).get(f"/api/receipt/{quote(action, safe='')}")
    assert answer.status_code == 404
