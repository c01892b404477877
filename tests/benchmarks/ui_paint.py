"""First paint of every page as a browser sees it, in a running Airflow.

    python -m tests.benchmarks.ui_paint URL PASSWORDS [--rounds 5]

URL is Airflow's, PASSWORDS its `airflow-passwords.json`. Each round opens each page in a fresh context of Debian's
Chromium: nothing is cached, Airflow's own bundle included. All figures are seconds since the navigation began, except
the last:

- paint: the browser's first contentful paint (Airflow's shell);
- header: Chainwright's header is there, its requests have just begun;
- first box: the first tile, table or chain has its figures;
- filled: no box is loading any more;
- own: filled minus header, what Chainwright's pages and endpoints take.
"""

import argparse
import json
import random
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, sync_playwright

USER = "admin"
PAGES = {"fleet": "", "findings": "/findings", "plan and history": "/history", "disk": "/disk?disk={disk}"}
COLUMNS = ("paint", "header", "first box", "filled", "own")
# Notes the moments in the page itself, frame by frame: asking from outside would add the way there and back.
WATCH = """
window.seen = {};
const marks = {
  header: () => document.querySelector('.cw-header'),
  box: () => document.querySelector('.cw-main .cw-tile, .cw-main .cw-table, .cw-main .cw-chain'),
  filled: () => window.seen.box && !document.querySelector('.cw-main .cw-spinner'),
};
const look = () => {
  for (const name of Object.keys(marks)) {
    if (!window.seen[name] && marks[name]()) window.seen[name] = performance.now();
  }
  requestAnimationFrame(look);
};
look();
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("url")
    options.add_argument("passwords", type=Path)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    password = json.loads(given.passwords.read_text())[USER]
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        measure(browser, given.url.rstrip("/"), password, given.rounds)
        browser.close()


def measure(browser: Browser, url: str, password: str, rounds: int) -> None:
    login = {"username": USER, "password": password}
    request = browser.new_context().request
    token = request.post(f"{url}/auth/token", data=login).json()["access_token"]
    cookie = {"name": "_token", "value": token, "url": url}
    answer = request.get(f"{url}/chainview/api/query/chain_length?limit=1000", headers={"Cookie": f"_token={token}"})
    disks = [row["disk_id"] for row in answer.json()["rows"]]
    some = random.Random(7)
    sys.stdout.write(f"{'page':18}" + "".join(f"{name:>20}" for name in COLUMNS) + "   (median, worst; s)\n")
    for name, path in PAGES.items():
        rows = [opened(browser, cookie, url, path.format(disk=quote(some.choice(disks)))) for _ in range(rounds)]
        cells = (f"{statistics.median(column):.2f}, {max(column):.2f}" for column in zip(*rows, strict=True))
        sys.stdout.write(f"{name:18}" + "".join(f"{cell:>20}" for cell in cells) + "\n")


def opened(browser: Browser, cookie: Any, url: str, path: str) -> tuple[float, ...]:
    """One page in a fresh context; see COLUMNS."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_cookies([cookie])
    context.add_init_script(WATCH)
    page = context.new_page()
    page.goto(f"{url}/plugin/chainwright{path}")
    page.wait_for_function("window.seen.filled", timeout=60_000)
    assert page.locator(".cw-trouble").count() == 0, page.locator(".cw-trouble").first.inner_text()
    seen = page.evaluate("window.seen")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    context.close()
    header, box, filled = (seen[name] / 1000 for name in ("header", "box", "filled"))
    return paint / 1000, header, box, filled, filled - header


if __name__ == "__main__":
    main()
