"""The run's page in Chromium: it opens trees, asks no network, and no text in it runs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_toys import hostile_tree, reported, trees

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.is_file():
        pytest.skip("Chromium is not installed")
    with api.sync_playwright() as running:
        found = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield found
        found.close()


class Seen:
    """What a page did that it must not do."""

    def __init__(self, page: Any) -> None:
        self.requests: list[str] = []
        self.faults: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda message: self.faults.append(message.text))
        page.on("dialog", lambda dialog: (self.faults.append(dialog.message), dialog.dismiss()))


def opened(browser: Any, file: Path, **options: Any) -> tuple[Any, Seen]:
    page = browser.new_page(**options)
    seen = Seen(page)
    page.goto(file.as_uri())
    page.wait_for_selector(".tree")
    return page, seen


def test_a_tree_opens_and_the_keyboard_leads_through_it(browser, tmp_path):
    reported(tmp_path, trees())
    page, seen = opened(browser, tmp_path / "page.html")
    assert page.locator(".reward").count() == 4
    assert "Why here?" in page.locator("#details").inner_text()
    chosen = page.locator(".node.chosen")
    start = chosen.get_attribute("data-node")
    page.keyboard.press("ArrowRight")
    further = chosen.get_attribute("data-node")
    page.keyboard.press("ArrowLeft")
    assert (chosen.get_attribute("data-node"), further != start) == (start, True)
    page.keyboard.press("n")
    page.wait_for_url("**#1")
    page.locator(".chart").focus()
    page.locator(".prompt").first.wait_for()
    page.keyboard.press("]")
    page.wait_for_url("**#2")
    assert page.locator("#list h2").inner_text() == "Step 1"
    assert (seen.requests, seen.faults) == ([(tmp_path / "page.html").as_uri()], [])
    page.close()


def test_filters_dim_what_is_not_wanted_and_siblings_stand_side_by_side(browser, tmp_path):
    reported(tmp_path, trees())
    page, _ = opened(browser, tmp_path / "page.html")
    page.get_by_label("outcome").select_option("right")
    leaves = page.locator(".node:has(.reward)")
    dim = [re.search("opacity: 0.3", leaf.get_attribute("style")) is not None for leaf in leaves.all()]
    assert dim.count(True) == 2
    assert page.locator(".siblings .two > div").count() == 2
    assert page.locator(".siblings mark").count() > 0
    page.get_by_label("Colour tokens by").select_option("mask")
    assert page.locator(".token").first.evaluate("one => one.style.backgroundColor") != ""
    page.close()


def test_no_text_runs_or_asks_for_anything(browser, tmp_path):
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    folder.mkdir()
    reported(folder, [hostile_tree()])
    page, seen = opened(browser, folder / "page.html")
    for node in page.locator(".node").all():
        node.dispatch_event("click")
    assert "<img src=x onerror=alert(1)>" in page.locator("#details").inner_text()
    assert page.locator("img, iframe, object, a, body script:not([type]) ~ script:not([type])").count() == 0
    assert page.evaluate("document.querySelectorAll('script:not([type])').length") == 1
    assert (seen.requests, seen.faults) == ([(folder / "page.html").as_uri()], [])
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(browser, tmp_path, scheme):
    reported(tmp_path, trees())
    page, _ = opened(browser, tmp_path / "page.html", viewport={"width": 360, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.close()
