"""One embedded fleet with two small disks, and Debian's Chromium on its pages."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tasks.embedded import airflow
from tasks.stages.transfer import import_disk
from tasks.store.connect import control_store
from tests.support.embedded_fleet import LiveFleet, new_fleet
from tests.support.evolving import make_chain

RUN_SECONDS = 180
LAYERS = 10
MERGED, STARTED = "web-merged", "web-started"
# A record under a name that no verb would make: the inventory keeps it as a refused head.
HOSTILE = '"><img src=x onerror="document.title=\'owned\'"> \u202eRTL ' + "x" * 150
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    """Up, with an inventory of two disks and of a head with a hostile name."""
    fleet = new_fleet(tmp_path_factory.mktemp("ui-fleet"))
    try:
        up = fleet.up()
        assert up.code == 0, up.err
        _fill(fleet, tmp_path_factory.mktemp("ui-chains"))
        yield fleet
    finally:
        fleet.down()


def _fill(fleet: LiveFleet, folder: Path) -> None:
    for seed, disk_id in enumerate((MERGED, STARTED)):
        disk = make_chain(folder, disk_id, LAYERS, seed=seed)
        disk.close()
        import_disk(fleet.fleet, folder, disk_id, disk.layers[-1].name, "eu-west")
    control_store(fleet.fleet).put_new(f"heads/{HOSTILE}.json", b"{}")
    run = fleet.api.trigger("chain_inventory")
    assert fleet.api.wait("chain_inventory", run, RUN_SECONDS) == "success"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "Debian's chromium is missing: .ci/setup tests"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield started
        started.close()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(live: LiveFleet, browser: Browser) -> Iterator[OpenPage]:
    """A function (path, user, width, theme) -> page, signed in; errors in the page's console fail the test.

    `expected`: what every error's line has, where a test makes the server fail.
    """
    contexts: list[Any] = []
    errors: list[str] = []

    def note(line: ConsoleMessage, expected: str) -> None:
        if line.type == "error" and expected not in line.text:
            errors.append(line.text)

    def opened(
        path: str = "", user: str = "admin", width: int = 1280, theme: str = "light", expected: str = "\0"
    ) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        contexts.append(context)
        base = live.api.url
        login = {"username": user, "password": airflow.passwords(live.state)[user]}
        token = context.request.post(f"{base}/auth/token", data=login).json()["access_token"]
        context.add_cookies([{"name": "_token", "value": token, "url": base}])
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: note(line, expected))
        page.goto(f"{base}/plugin/chainwright{path}")
        page.wait_for_selector(".cw-root", timeout=60_000)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []
