"""The run's page in Chromium, as a file and from `arpo view`: it opens trees, asks no network, and no text in it runs."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from page_toys import hostile_tree, reported, trees, viewed

from algorithms.tracking.trees import write_trees
from algorithms.tree import RolloutTree, Status

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE_NAME = "<img src=x onerror=alert(1)>"
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


@pytest.fixture(params=["report", "view"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@contextmanager
def shown(kind: str, folder: Path, some: list[RolloutTree]) -> Iterator[str]:
    """Gives where the page of a run is."""
    reported(folder, some)
    if kind == "report":
        yield (folder / "page.html").as_uri()
    else:
        with viewed(folder) as server:
            yield f"{server.url}/"


class Seen:
    """What a page did that it must not do, and what it asked for."""

    def __init__(self, page: Any) -> None:
        self.requests: list[str] = []
        self.faults: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda message: self.faults.append(message.text))
        page.on("dialog", lambda dialog: (self.faults.append(dialog.message), dialog.dismiss()))

    def assert_nothing_but(self, url: str) -> None:
        """It had no fault, and asked only for itself or its own server."""
        assert self.faults == []
        others = [one for one in self.requests if one != url and not re.fullmatch(rf"{url}(index|tree|step)\b.*", one)]
        assert (others, self.requests.count(url)) == ([], 1)
        assert url.startswith("http") or self.requests == [url]


@contextmanager
def opened(browser: Any, url: str, **options: Any) -> Iterator[tuple[Any, Seen]]:
    page = browser.new_page(**options)
    seen = Seen(page)
    page.goto(url)
    page.wait_for_selector(".tree")
    yield page, seen
    page.close()


def test_a_tree_opens_and_the_keyboard_leads_through_it(browser, tmp_path, kind):
    with shown(kind, tmp_path, trees()) as url, opened(browser, url) as (page, seen):
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
        seen.assert_nothing_but(url)


def test_filters_dim_what_is_not_wanted_and_siblings_stand_side_by_side(browser, tmp_path):
    with shown("report", tmp_path, trees()) as url, opened(browser, url) as (page, _):
        page.get_by_label("outcome").select_option("right")
        leaves = page.locator(".node:has(.reward)")
        dim = [re.search("opacity: 0.3", leaf.get_attribute("style")) is not None for leaf in leaves.all()]
        assert dim.count(True) == 2
        assert page.locator(".siblings .two > div").count() == 2
        assert page.locator(".siblings mark").count() > 0
        page.get_by_label("Colour tokens by").select_option("mask")
        assert page.locator(".token").first.evaluate("one => one.style.backgroundColor") != ""


def changed(name: str, **fields: Any) -> RolloutTree:
    """Returns a tree whose leaves have these fields; "tool" is that of all its calls."""
    (tree,) = trees(1)
    tool = fields.pop("tool", "count")
    nodes = [replace(node, tool=tool if node.tool else "", **(fields if node.status else {})) for node in tree.nodes]
    return RolloutTree(name, {"step": 0}, nodes, frozen=True)


DIFFERENT = [
    changed("good", success=1.0),
    changed("bad", success=0.0, tool="look"),
    changed("cut", success=0.0, status=Status.TRUNCATED),
    changed("broken", success=None, status=Status.TOOL_FAULT, tool="look"),
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"outcome": "right"}, ["good"]),
        ({"outcome": "wrong"}, ["bad", "cut"]),
        ({"outcome": "failed"}, ["broken"]),
        ({"tool": "count"}, ["good", "cut"]),
        ({"tool": "look"}, ["bad", "broken"]),
        ({"status": "answered"}, ["good", "bad"]),
        ({"status": "truncated"}, ["cut"]),
        ({"status": "tool_fault"}, ["broken"]),
        ({"outcome": "wrong", "tool": "look"}, ["bad"]),
        ({"outcome": "right", "status": "truncated"}, []),
    ],
    ids=lambda one: " ".join(one.values()) if isinstance(one, dict) else "",
)
def test_a_filter_leaves_the_trees_and_leaves_that_are_wanted(browser, tmp_path, wanted, found):
    with shown("report", tmp_path, DIFFERENT) as url, opened(browser, url) as (page, _):

        def listed() -> list[str]:
            return [one.partition(". ")[2] for one in page.locator(".prompt .task").all_inner_texts()]

        everything = ["good", "bad", "cut", "broken"]
        assert listed() == everything
        for name, value in wanted.items():
            filter_of(page, name).select_option(value)
        assert listed() == found
        assert page.get_by_text("No tree of this step is as asked for").count() == (not found)
        for number, name in enumerate(everything):
            if name in found:
                page.locator(f".prompt[data-number='{number}']").click()
                page.wait_for_url(f"**#{number}")
                assert {opacity_of(one) for one in page.locator(".node:has(.reward)").all()} == {1.0}
        for name in wanted:
            filter_of(page, name).select_option("")
        assert listed() == everything


def filter_of(page: Any, name: str) -> Any:
    return page.locator("#filters label").filter(has_text=re.compile(f"^{name}")).locator("select")


def opacity_of(mark: Any) -> float:
    return float(mark.evaluate("one => getComputedStyle(one).opacity"))


def test_a_leaf_that_is_not_wanted_is_dim_with_all_that_leads_to_no_other(browser, tmp_path):
    with shown("report", tmp_path, trees(1)) as url, opened(browser, url) as (page, _):
        assert {opacity_of(one) for one in page.locator(".node").all()} == {1.0}
        filter_of(page, "outcome").select_option("right")
        for leaf in page.locator(".node:has(.reward)").all():
            assert opacity_of(leaf) == (1.0 if "✓" in leaf.inner_html() else 0.3)
        assert opacity_of(page.locator(".node").first) == 1.0, "the question leads to both"


def test_another_colouring_gives_the_tree_and_its_tokens_other_colours(browser, tmp_path):
    def colours(page: Any, of: str, name: str) -> tuple[str, ...]:
        return tuple(page.locator(of).evaluate_all(f"all => all.map(one => getComputedStyle(one).{name})"))

    with shown("report", tmp_path, trees(1)) as url, opened(browser, url) as (page, _):
        drawn = {}
        for by in ("value", "relative"):
            page.locator("#tree .bar select").select_option(by)
            drawn[by] = colours(page, ".shape", "fill") + colours(page, ".link", "stroke")
            assert len(set(drawn[by])) > 1, "what earned more looks otherwise"
        assert drawn["value"] != drawn["relative"]
        page.get_by_role("button", name="Whole path").click()
        clear, found = "rgba(0, 0, 0, 0)", {}
        for by in ("logprob", "entropy", "relative", "mask", "none"):
            page.get_by_label("Colour tokens by").select_option(by)
            found[by] = colours(page, ".token.sampled", "backgroundColor")
            others = set(colours(page, ".token:not(.sampled)", "backgroundColor"))
            assert (others == {clear}) == (by != "mask"), "only the mask says something of tokens that were not sampled"
        assert set(found["none"]) == {clear}
        assert len(set(found.values())) == len(found)
        assert len(set(found["entropy"])) > 2, "tokens of one action differ"


def test_what_is_relative_to_the_group_is_called_so_and_no_advantage_of_the_recipe(browser, tmp_path):
    with shown("report", tmp_path, trees(1)) as url, opened(browser, url) as (page, _):
        for leaf in page.locator(".node:has(.reward)").all():
            leaf.dispatch_event("click")
            reward = leaf.locator(".reward").text_content().split()[2]
            told = {"0.50": "-1.00", "1.00": "1.00"}[reward]  # rewards of ½, 1, ½ and 1: the deviation is ¼
            assert f"group-relative reward {told}" in page.locator(".facts").inner_text()
        assert "group-relative reward 1.00" in page.locator(".token.sampled").first.get_attribute("title")
        assert "advantage" not in page.locator("body").inner_text().lower()


def test_no_text_runs_or_asks_for_anything(browser, tmp_path, kind):
    folder = tmp_path / HOSTILE_NAME
    folder.mkdir()
    with shown(kind, folder, [hostile_tree()]) as url, opened(browser, url) as (page, seen):
        for node in page.locator(".node").all():
            node.dispatch_event("click")
        assert HOSTILE_NAME in page.locator("#details").inner_text()
        assert page.locator("img, iframe, object, a, body script:not([type]) ~ script:not([type])").count() == 0
        assert page.evaluate("document.querySelectorAll('script:not([type])').length") == 1
        seen.assert_nothing_but(url)


@pytest.mark.parametrize("width", [1200, 360], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(browser, tmp_path, kind, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    looks = {"viewport": {"width": width, "height": 740}, "color_scheme": scheme}
    with shown(kind, tmp_path, trees()) as url, opened(browser, url, **looks) as (page, _):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_role("button", name="Whole path").click()
        for colouring in ("entropy", "mask", "logprob"):
            page.get_by_label("Colour tokens by").select_option(colouring)
            found = axe.run(page)
            serious = [one["id"] for one in found.response["violations"] if one["impact"] in ("serious", "critical")]
            assert serious == [], found.generate_report()


def test_what_is_written_meanwhile_appears_and_what_is_open_stays(browser, tmp_path):
    first = trees(2)
    with shown("view", tmp_path, first) as url, opened(browser, url) as (page, seen):
        page.keyboard.press("n")
        page.wait_for_url("**#1")
        page.locator(".node").first.dispatch_event("click")
        page.locator("#budget").evaluate("one => { one.dataset.mine = 'kept'; }")
        page.locator(".tree").evaluate("one => { one.dataset.mine = 'kept'; }")
        page.get_by_label("Curve").focus()
        write_trees(tmp_path / "trees.jsonl.zst", [replace(tree, meta={"step": 1}) for tree in trees(3)])
        with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as lines:
            lines.write('": 2, "success": 0.75}\n')
        page.get_by_text("5 trees").wait_for()
        assert page.locator(".tree").get_attribute("data-mine") == "kept"
        assert page.get_by_label("Curve").evaluate("one => one === document.activeElement")
        assert page.locator(".dot").count() == 2
        assert page.locator(".prompt").count() == 2
        page.locator(".chart").focus()
        page.keyboard.press("End")
        page.locator("body").press("]")
        page.wait_for_url("**#2")
        assert page.locator(".prompt").count() == 3
        seen.assert_nothing_but(url)


def test_the_first_trees_of_a_run_that_has_just_begun_appear(browser, tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with viewed(tmp_path) as server:
        page = browser.new_page()
        page.goto(server.url)
        page.get_by_text("No trees yet").wait_for()
        write_trees(tmp_path / "trees.jsonl.zst", trees(1))
        page.locator(".tree").wait_for()
        assert page.locator(".reward").count() == 4
        page.close()


def test_a_page_whose_server_has_gone_says_so_and_keeps_what_it_shows(browser, tmp_path):
    with shown("view", tmp_path, trees(2)) as url:
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector(".tree")
    page.get_by_text("The server does not answer").wait_for()
    assert page.locator(".reward").count() == 4
    page.close()


def test_a_curve_of_many_steps_is_drawn_with_its_extremes(browser, tmp_path):
    with shown("view", tmp_path, trees(1)) as url:
        steps = [{"step": i, "success": float(i == 77_777)} for i in range(100_000)]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in steps), encoding="utf-8")
        with opened(browser, url) as (page, seen):
            page.locator(".chart[aria-valuemax='99999']").wait_for()
            points = page.locator(".curve").get_attribute("points").split()
            heights = [float(point.partition(",")[2]) for point in points]
            assert (len(points) <= 500, heights.count(min(heights)), page.locator(".dot").count()) == (True, 1, 1)
            seen.assert_nothing_but(url)


def test_long_texts_are_whole_or_say_what_is_left_out(browser, tmp_path):
    (tree,) = trees(1)
    question, fork = "why " * 500, next(i for i, node in enumerate(tree.nodes) if node.parent > 0 and node.origin == "branch")
    beside = next(i for i, node in enumerate(tree.nodes) if node.parent == tree.nodes[fork].parent and i != fork)
    nodes = [
        replace(node, tokens=range(i, 5000 + i), sampled=[True] * 5000, logprobs=[-1.0] * 5000, entropies=[1.0] * 5000)
        if i in (fork, beside)
        else replace(node, text=question if i == 0 else node.text)
        for i, node in enumerate(tree.nodes)
    ]
    with shown("report", tmp_path, [RolloutTree("long", {"step": 0}, nodes, frozen=True)]) as url:
        page = browser.new_page()
        page.goto(url)
        page.get_by_text("The whole question (1999 characters)").click()
        assert page.locator("details .question").inner_text() == question.strip()
        page.locator(f"[data-node='{fork}']").dispatch_event("click")
        page.get_by_text("too long to be compared").wait_for()
        for side, node in zip(page.locator(".two .tokens").all(), (fork, beside), strict=True):
            assert f"#{4999 + node} " in side.text_content()
        page.close()
