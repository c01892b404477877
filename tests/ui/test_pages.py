"""Every page in a real browser on a real fleet; a dry run and a real merge from the disk's page."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.support.embedded_fleet import LiveFleet
from tests.ui.conftest import HOSTILE, LAYERS, MERGED, STARTED

pytestmark = [pytest.mark.ui, pytest.mark.airflow, pytest.mark.s3, pytest.mark.qemu, pytest.mark.timeout(600)]

PAGES = {"Fleet": "Chain lengths", "Findings": "Long chains", "Plan and history": "What was done"}
RUN_MS = 180_000


def settled(page: Page) -> None:
    """No spinner left; the charts are drawn by a chunk that loads on its own."""
    expect(page.locator(".cw-state .cw-spinner")).to_have_count(0, timeout=60_000)
    page.wait_for_load_state("networkidle")


def look(page: Page, heading: str) -> None:
    """The page is there, without a trouble box, and not wider than the window."""
    expect(page.get_by_role("heading", name=heading).first).to_be_visible(timeout=60_000)
    settled(page)
    assert page.locator(".cw-trouble").count() == 0, page.locator(".cw-trouble").first.inner_text()
    wider = page.evaluate(
        "() => { const r = document.querySelector('.cw-root'); return r.scrollWidth - r.clientWidth }"
    )
    assert wider <= 0, f"{heading}: {wider} px too wide"


def layers_shown(page: Page) -> int:
    return int(page.get_by_test_id("chain").get_attribute("data-layers", timeout=60_000) or 0)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_whole_in_both_themes_and_widths(open_page: Any, width: int, theme: str) -> None:
    page = open_page(f"/disk?disk={MERGED}", width=width, theme=theme)
    look(page, "Chain, from base to tip")
    for name, heading in PAGES.items():
        page.get_by_role("link", name=name, exact=True).click()
        look(page, heading)


def test_charts_are_drawn_and_have_their_figures_as_tables(open_page: Any) -> None:
    page = open_page()
    figure = page.locator("figure", has_text="Chain lengths")
    expect(figure.locator("svg path").first).to_be_attached(timeout=60_000)
    figure.get_by_text("Figures of this chart").click()
    expect(figure.get_by_role("cell", name=str(LAYERS), exact=True)).to_be_visible()


def test_pages_are_reached_by_keyboard_alone(open_page: Any) -> None:
    page = open_page()
    settled(page)
    page.get_by_role("link", name="Fleet", exact=True).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Findings", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Long chains")).to_be_visible()
    page.get_by_role("button", name="SQL").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("chain_length")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_hostile_names_are_text(open_page: Any) -> None:
    page = open_page("/findings")
    page.get_by_label("Filter").fill("onerror")
    link = page.get_by_role("link", name=re.compile("onerror"))
    expect(link).to_have_count(1)
    assert page.locator(".cw-root img").count() == 0
    link.click()
    expect(page.locator("h2 .cw-title")).to_have_text(HOSTILE)
    settled(page)
    assert page.title() != "owned"
    assert page.locator(".cw-root img").count() == 0


def test_tables_are_sorted_by_the_server_and_downloaded(open_page: Any) -> None:
    page = open_page("/findings")
    header = page.get_by_role("columnheader", name="Layers", exact=False).first
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "descending")
    settled(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert MERGED in download.value.path().read_text()


def test_a_viewer_sees_but_cannot_act(open_page: Any, live: LiveFleet) -> None:
    page = open_page(f"/disk?disk={MERGED}", user="viewer")
    assert layers_shown(page) == LAYERS
    for name in ("Dry run", "Merge…", "Warm the cache", "New inventory"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()
    body = {"logical_date": None, "conf": {"disk": MERGED}}
    answer = page.request.post(f"{live.api.url}/api/v2/dags/disk_maintenance/dagRuns", data=body)
    assert answer.status == 403


def run_ends(page: Page, state: str) -> None:
    run = page.get_by_test_id("run")
    expect(run).to_have_attribute("data-state", re.compile("success|failed"), timeout=RUN_MS)
    assert run.get_attribute("data-state") == state, run.inner_text()


def test_a_dry_run_and_a_merge_from_the_page_make_the_chain_shorter(open_page: Any, live: LiveFleet) -> None:
    page = open_page(f"/disk?disk={MERGED}")
    assert layers_shown(page) == LAYERS
    expect(page.get_by_text(re.compile("Would merge"))).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Dry run").click()
    run_ends(page, "success")
    settled(page)
    assert layers_shown(page) == LAYERS
    page.get_by_role("button", name="Merge…").click()
    page.get_by_role("button", name="Yes, merge now").click()
    expect(page.get_by_test_id("run")).to_have_attribute("data-state", re.compile("queued|running"), timeout=60_000)
    run_ends(page, "success")
    expect(page.get_by_text("The disk changed after the inventory")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="New inventory").click()
    expect(page.get_by_test_id("run")).to_have_attribute("data-state", re.compile("queued|running"), timeout=60_000)
    run_ends(page, "success")
    expect(page.get_by_text("The disk changed after the inventory")).to_have_count(0, timeout=60_000)
    expect(page.get_by_test_id("chain")).not_to_have_attribute("data-layers", str(LAYERS), timeout=60_000)
    assert layers_shown(page) < LAYERS
    expect(page.get_by_role("region", name="Actions on this disk").get_by_text("published")).to_be_visible()


def test_warming_from_the_page(open_page: Any, live: LiveFleet) -> None:
    page = open_page(f"/disk?disk={STARTED}")
    settled(page)
    page.get_by_role("region", name="Actions", exact=True).get_by_label("Region").select_option("us-east")
    page.get_by_role("button", name="Warm the cache").click()
    run_ends(page, "success")
    runs = live.api.call("GET", "/dags/cache_warm/dagRuns?order_by=-run_after&limit=20")["dag_runs"]
    ours = [run for run in runs if (run["conf"] or {}).get("disk") == STARTED]
    assert [run["conf"]["region"] for run in ours] == ["us-east"]
    tasks = live.api.task_instances("cache_warm", ours[0]["dag_run_id"])
    assert [task["state"] for task in tasks if task["task_id"] == "act_us_east"] == ["success"]


def test_task_instances_lead_to_the_disk_and_the_receipt(open_page: Any, live: LiveFleet) -> None:
    runs = live.api.call("GET", "/dags/disk_maintenance/dagRuns?order_by=-start_date&limit=10")["dag_runs"]
    acts = [
        task
        for run in runs
        for task in live.api.task_instances("disk_maintenance", run["dag_run_id"])
        if task["task_id"].startswith("act_") and task["state"] == "success"
    ]
    assert acts, "the test before this one merged a disk"
    act = acts[0]
    place = f"/dags/disk_maintenance/dagRuns/{quote(act['dag_run_id'])}/taskInstances/{act['task_id']}"
    links = live.api.call("GET", f"{place}/links?map_index={act['map_index']}")["extra_links"]
    assert f"disk={MERGED}" in links["Chainwright: disk"]
    page = open_page(links["Chainwright: receipt"].partition("/plugin/chainwright")[2])
    receipt = page.get_by_test_id("receipt")
    expect(receipt).to_contain_text("published", timeout=60_000)
    expect(receipt).to_contain_text("Proof")


def test_a_refusal_is_noted_on_its_task_instance(open_page: Any, live: LiveFleet) -> None:
    from tasks.store.connect import control_store
    from tasks.store.heads import HeadStore

    HeadStore(control_store(live.fleet)).start(STARTED, "host-1")
    page = open_page(f"/disk?disk={STARTED}")
    page.get_by_role("button", name="Dry run").click()
    run_ends(page, "failed")
    expect(page.get_by_test_id("run")).to_contain_text("disk_running", timeout=60_000)
