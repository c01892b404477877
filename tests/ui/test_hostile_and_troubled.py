"""What the server may answer on a bad day, in a real browser: hostile names of every kind, and every kind of trouble.

Answers of the running fleet are changed on their way to the page: no fleet has all of this at once.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.ui.conftest import HOSTILE, MERGED
from tests.ui.test_pages import settled

pytestmark = [pytest.mark.ui, pytest.mark.airflow, pytest.mark.s3, pytest.mark.qemu, pytest.mark.timeout(600)]

SINCE = "2026-11-25T03:04:05+00:00"
PROBLEMS = [
    ("no_manifest", "No inventory yet"),
    ("store_unreachable", "The object store cannot be reached"),
    ("snapshot_incomplete", "The newest snapshot is incomplete"),
]


def altered(page: Page, path: str, change: Callable[[Any], None]) -> None:
    """Answers of an endpoint reach the page changed."""

    def handle(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        change(body)
        route.fulfill(response=answer, body=json.dumps(body))

    page.route(f"**/chainview/api/{path}*", handle)


@pytest.mark.parametrize(
    ("path", "query", "columns"),
    [
        (f"/disk?disk={MERGED}", "disk_chain", ["layer_id", "region", "status", "reason"]),
        ("", "cross_region_hotspots", ["reader_region", "layer_region"]),
        ("", "cache_hit_rate", ["reader_region", "region", "cache_status"]),
        ("/history", "receipts", ["reason", "engine", "outcome"]),
    ],
)
def test_hostile_names_are_text_in_charts_and_lists(open_page: Any, path: str, query: str, columns: list[str]) -> None:
    def change(body: Any) -> None:
        row = {column["name"]: 1 for column in body["columns"]}
        body["rows"] = body["rows"] or [row]
        body["total"] = len(body["rows"])
        for each in body["rows"]:
            each.update({name: HOSTILE for name in columns if name in each})

    page = open_page(path)
    altered(page, f"query/{query}", change)
    page.reload()
    settled(page)
    expect(page.locator(".cw-root")).to_contain_text("onerror")
    assert page.locator(".cw-root img").count() == 0
    assert page.title() != "owned"


@pytest.mark.parametrize(("code", "title"), PROBLEMS)
def test_a_page_without_data_says_what_and_since_when(open_page: Any, code: str, title: str) -> None:
    trouble = {"code": code, "title": title, "detail": "<b>the detail</b>", "since": SINCE}
    page = open_page("/findings")
    altered(page, "status", lambda body: body.update(problem=trouble, snapshot=None, fleet=None))
    page.reload()
    alert = page.get_by_role("alert")
    for text in (title, "<b>the detail</b>", "2026-11-25 03:04:05Z"):
        expect(alert).to_contain_text(text, timeout=60_000)
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_old_data_is_shown_with_a_warning_since_when(open_page: Any) -> None:
    trouble = {"code": "store_unreachable", "title": "The store is away", "detail": "timed out", "since": SINCE}
    page = open_page("/findings")
    altered(page, "status", lambda body: body.update(warning=trouble))
    page.reload()
    expect(page.get_by_text("The store is away.")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Since 2026-11-25 03:04:05Z")).to_be_visible()
    expect(page.get_by_role("heading", name="Long chains")).to_be_visible()


def test_a_table_that_fails_says_so_and_can_be_tried_again(open_page: Any) -> None:
    page = open_page("/findings", expected="503")
    problem = {"code": "failed", "title": "Chainwright could not answer", "detail": "query x: out of memory"}
    body = json.dumps({"problem": problem | {"since": None}})
    page.route("**/chainview/api/query/*", lambda route: route.fulfill(status=503, body=body))
    page.reload()
    expect(page.get_by_role("alert").first).to_contain_text("out of memory", timeout=60_000)
    page.unroute("**/chainview/api/query/*")
    page.get_by_role("button", name="Try again").first.click()
    expect(page.get_by_role("heading", name="Long chains")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0, timeout=60_000)


def test_empty_tables_say_what_would_be_there(open_page: Any) -> None:
    page = open_page("/findings")
    altered(page, "query/chain_length", lambda body: body.update(rows=[], total=0))
    page.reload()
    expect(page.locator(".cw-empty").first).to_be_visible(timeout=60_000)
