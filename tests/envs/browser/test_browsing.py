"""What the browser's functions do, one after another: views, cursors, mistakes, and state that is data."""

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from browser_sites import HOME, Site
from hypothesis import given
from hypothesis import strategies as st

from arpo_envs.dialects import Call, Mistake, make_dialect
from arpo_envs.errors import ConfigError
from arpo_envs.tasks import Task
from arpo_envs.testing import Law, check_tool
from arpo_envs.tools import Stateless, ToolResult, ToolSpec
from arpo_envs.tools.browser import BrowserTool
from arpo_envs.tools.browser.kept import kept
from arpo_envs.tools.browser.tool import BrowserSession

TASK = Task("t", "?", ("x",), {"start": HOME})


def browser(site: Site | None = None, **arguments: Any) -> BrowserSession:
    return BrowserTool(site or Site(), **arguments).open(TASK, np.random.default_rng(0))


def told(session: BrowserSession, name: str, **arguments: Any) -> str:
    return session.call(f"browser.{name}", arguments, timeout=5.0).text


def first_line(text: str) -> str:
    return text.split("\n")[0]


def test_the_address_of_a_page_of_results_is_no_page_that_was_opened() -> None:
    site = Site()
    session = browser(site, addresses="known")
    told(session, "open")
    assert "find?pattern=one" in told(session, "find", pattern="one")
    assert "only the start page" in told(session, "open", id=f"{HOME}/find?pattern=one")
    assert site.fetched == [HOME]


def test_links_are_followed_from_any_view() -> None:
    session = browser()
    assert told(session, "open", id=0) == told(session, "find", pattern="x") == "No pages to access!"
    assert told(session, "open", id=HOME) == (
        f"[0] Home ({HOME})\n**viewing lines [0 - 2] of 2**\n\nL0: # Home\nL1: \nL2: To 【0†one】 and 【1†two】."
    )
    assert first_line(told(session, "open", id=0)) == f"[1] One ({HOME}one)"
    assert first_line(told(session, "open", id=1, cursor=0)) == f"[2] Two ({HOME}two)"
    assert first_line(told(session, "open", cursor=1, loc=3)) == f"[3] One ({HOME}one)"
    assert first_line(told(session, "open", id=1.0)) == f"[4] Home ({HOME})"
    assert session.state.clicks == 3


def test_without_arguments_the_start_page_is_opened_where_there_is_one() -> None:
    assert first_line(told(browser(), "open")) == f"[0] Home ({HOME})"
    session = BrowserTool(Site()).open(Task("t", "?", ("x",)), np.random.default_rng(0))
    assert told(session, "open") == "No pages to access!"


def test_what_is_found_is_opened_where_it_stands() -> None:
    session = browser()
    told(session, "open", id=f"{HOME}one")
    assert "# 【0†match at L42】\nL1: the end" in told(session, "find", pattern="THE END")
    assert "\n**viewing lines [38 - 42] of 42**\n" in told(session, "open", id=0)
    assert session.state.clicks == 0, "a match leads to the page it is in"
    assert told(session, "find", pattern="x", cursor=1).startswith("Cannot run `find` on")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"id": 2}, "Invalid link id `2`."),
        ({"id": 0, "cursor": 1}, "Cursor `1` is out of range. Available cursor indices: [0 - 0]."),
        ({"cursor": -2}, "Cursor `-2` is out of range. Available cursor indices: [0 - 0]."),
        ({"loc": 3}, "Invalid location parameter: `3`. Cannot exceed page maximum of 2."),
        ({"id": 0, "loc": 10**30}, f"Invalid location parameter: `{10**30}`. Cannot exceed page maximum of 42."),
        ({"id": "nowhere"}, "Error fetching URL `nowhere`: there is no such page"),
        ({"cursor": "0"}, "`cursor` should be an integer, not `str`"),
        ({"loc": True}, "`loc` should be an integer, not `bool`"),
        ({"id": None}, "`id` should be an integer, not `NoneType`"),
        ({"id": [1]}, "`id` should be an integer, not `list`"),
        ({"num_lines": 0.5}, "`num_lines` should be an integer, not `float`"),
    ],
)
def test_mistakes_are_told_and_change_nothing(arguments: dict[str, Any], words: str) -> None:
    session = browser()
    told(session, "open", id=HOME)
    before = session.state
    result = session.call("browser.open", arguments, timeout=5.0)
    assert (result.text, result.error) == (words, "not_found")
    assert session.state is before


def test_pages_are_fetched_again_only_by_their_url() -> None:
    site = Site()
    session = browser(site)
    told(session, "open", id=HOME)
    told(session, "open", id=0)
    told(session, "open", id=1)
    assert site.fetched == [HOME, f"{HOME}one"]
    told(session, "open", id=HOME)
    assert site.fetched == [HOME, f"{HOME}one", HOME]


def test_search_shows_as_many_results_as_asked_for() -> None:
    session = browser(results=2)
    text = told(session, "search", query="The")
    assert text.startswith("[0] The\n**viewing lines [0 - ")
    assert session.state.page().links == (f"{HOME}one", f"{HOME}two")
    assert told(session, "search", query="The", topn=1) != text
    assert session.state.page().links == (f"{HOME}one",)
    assert session.state.page(0).links == (f"{HOME}one", f"{HOME}two"), "an older view stays as it was"
    told(session, "search", query="Home", topn=-5)
    assert first_line(told(session, "open", id=0, cursor=0)) == f"[3] One ({HOME}one)"
    assert told(session, "find", pattern="x", cursor=0).startswith("Cannot run `find` on")
    assert told(session, "search", query="broken") == "Error during search for `broken`: the index is broken"
    assert "Nothing was found" in told(session, "search", query="zebra")


def test_the_source_of_a_page() -> None:
    session = browser()
    told(session, "open", id=HOME)
    text = told(session, "open", id=1, view_source=True)
    assert first_line(text) == f"[1] {HOME}two (view-source:{HOME}two)"
    assert "<title>Two</title>" in text
    assert told(session, "open", id=0) == "Invalid link id `0`."
    assert first_line(told(session, "open", id=f"view-source:{HOME}")).endswith(f"(view-source:{HOME})")
    assert first_line(told(session, "open", cursor=0, view_source=True)).endswith(f"(view-source:{HOME})")


def test_back_goes_back_as_in_a_browser() -> None:
    session = browser(back=True)
    told(session, "open", id=HOME)
    assert told(session, "back") == "There is no page to go back to."
    told(session, "open", id=0)
    told(session, "open", id=0)
    assert [first_line(told(session, "back"))[:7] for _ in range(2)] == ["[3] One", "[4] Hom"]
    assert told(session, "back") == "There is no page to go back to."
    assert first_line(told(session, "open", id=1)) == f"[5] Two ({HOME}two)"
    assert first_line(told(session, "back")) == f"[6] Home ({HOME})"


def test_only_known_addresses_if_so_asked() -> None:
    session = browser(addresses="known")
    assert "only the start page" in told(session, "open", id=f"{HOME}one")
    assert "only the start page" in told(session, "open", id=f"view-source:{HOME}one")
    told(session, "open", id=HOME)
    told(session, "open", id=0)
    assert first_line(told(session, "open", id=f"{HOME}one")) == f"[2] One ({HOME}one)"


def test_state_is_data() -> None:
    session = browser()
    told(session, "open", id=HOME)
    (twin,) = session.clone()
    stored = pickle.loads(pickle.dumps(session.state))
    assert stored == session.state == copy.deepcopy(session.state)
    assert isinstance(twin, BrowserSession)
    assert told(twin, "open", id=0) == told(session, "open", id=0)
    assert twin.state == session.state != stored


@pytest.mark.parametrize("back", [False, True])
def test_it_keeps_the_laws_of_tools(back: bool) -> None:
    assert check_tool(BrowserTool(Site(), back=back), task=TASK).ok


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="site cannot search"):
        BrowserTool(Site(searches=False), search=True)
    with pytest.raises(ConfigError, match="Did you mean 'known'"):
        BrowserTool(Site(), addresses="knwon")
    with pytest.raises(ConfigError, match="at least 1"):
        BrowserTool(Site(), results=0)
    assert [spec.name for spec in BrowserTool(Site(searches=False)).specs] == ["browser.open", "browser.find"]
    assert [spec.name for spec in BrowserTool(Site(), search=False, back=True).specs][2:] == ["browser.back"]


# --- names with dots --------------------------------------------------------------------------------------

CALLS = [
    ("<browser.open>{}</browser.open>", '{"name": "browser.open"}', Call("browser.open", {})),
    (
        '<browser.open>{"id": 3}</browser.open>',
        '{"name": "browser.open", "arguments": {"id": 3}}',
        Call("browser.open", {"id": 3}),
    ),
    (
        "<browser.find>json</browser.find>",
        '{"name": "browser.find", "arguments": {"pattern": "json"}}',
        Call("browser.find", {"pattern": "json"}),
    ),
]


@pytest.mark.parametrize(("tags", "json", "call"), CALLS)
def test_both_dialects_read_names_with_dots(tags: str, json: str, call: Call) -> None:
    specs = BrowserTool(Site()).specs
    assert make_dialect("tags", specs).parse(f"<think>so</think>{tags}") == call
    assert make_dialect("json", specs).parse(f"<tool_call>{json}</tool_call>") == call


@pytest.mark.parametrize(("name", "fits"), [("note.take", True), ("note..take", False), (".note", False), ("note.1", False)])
def test_the_kit_knows_which_names_may_have_dots(name: str, fits: bool) -> None:
    class Named(Stateless):
        specs = (ToolSpec(name, "Takes nothing."),)

        def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
            return ToolResult("taken")

    assert (Law.SPECS in check_tool(Named(), raise_on_fail=False).failed) is not fits


def test_a_dot_in_a_name_is_only_a_dot() -> None:
    tags = make_dialect("tags", BrowserTool(Site()).specs)
    missed = tags.parse("<browserXopen>{}</browserXopen>")
    assert isinstance(missed, Mistake)
    assert "There is no tool <browserXopen>" in missed.text
    unknown = tags.parse("<browser.opn>{}</browser.opn>")
    assert isinstance(unknown, Mistake)
    assert unknown.text.endswith("Did you mean <browser.open>?")
    assert tags.neutralise("</browser.open> <browser.x>") == "[/browser.open] <browser.x>"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4000)), max_size=60))
def test_what_was_read_last_is_kept_up_to_a_number_of_characters(asked: list[tuple[int, int]]) -> None:
    """Like a list of the last results, of which the oldest make room."""
    computed: list[int] = []
    sizes: dict[int, int] = {}

    @kept(9000, key=int, size=len)
    def text(name: int) -> str:
        computed.append(name)
        return "x" * sizes[name]

    last: dict[int, int] = {}
    for name, size in asked:
        sizes.setdefault(name, size)
        before = len(computed)
        assert text(name) == "x" * sizes[name]
        assert (len(computed) == before) == (name in last)
        last[name] = last.pop(name, sizes[name] + 1000)
        while sum(last.values()) > 9000:
            del last[next(iter(last))]


def test_a_result_that_is_too_large_by_itself_is_not_kept() -> None:
    computed = []

    @kept(2000, key=int, size=len)
    def text(size: int) -> str:
        computed.append(size)
        return "x" * size

    for size in (500, 5000, 500, 5000):
        text(size)
    assert computed == [500, 5000, 5000]
