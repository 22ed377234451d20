"""Blocked domains are neither found nor opened, however a URL spells them and wherever it leads."""

import pickle
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arpo_envs.errors import ConfigError
from arpo_envs.tasks.world import load_world
from arpo_envs.tools.browser import BlockedSite, Document, Hit, PageError, PageSource, WorldSite
from arpo_envs.tools.domains import is_within
from arpo_envs.tools.search import LiveSearchTool

BLOCKED = ("bad.example", "bücher.example")


class Everything:
    """Has a page at every URL; "/to/URL" leads elsewhere."""

    name, searches, trusted = "everything", True, True

    def __init__(self, hits: Sequence[str] = ()) -> None:
        self.hits = hits

    def fetch(self, url: str, *, timeout: float) -> Document | PageError:
        return Document(url.rpartition("/to/")[2], "text")

    def search(self, query: str, count: int, *, timeout: float) -> Sequence[Hit] | PageError:
        return PageError("broken") if query == "broken" else [Hit(url, url, "") for url in self.hits][:count]


IN = [
    "https://bad.example",
    "http://BAD.Example./x?y#z",
    "https://a.b.bad.example:8443/",
    "https://good.example@bad.example/",
    "https:\\\\bad.example\\x",
    "https://b%61d.example/",
    " https://bad.example/",
    "//bad.example/",
    "bad.example/x",
    "https://ｂａｄ.example/",
    "https://bad。example/",
    "https://xn--bcher-kva.example/",
    "https://www.BÜCHER.example/",
]
OUT = [
    "https://notbad.example/",
    "https://bad.example.org/",
    "https://good.example/bad.example",
    "https://good.example/?u=https://bad.example/",
    "https://bad.example@good.example/",
    "http://[::",
    "",
    "example",
]


@pytest.mark.parametrize("url", IN)
def test_no_spelling_of_a_url_gets_through(url: str) -> None:
    found = BlockedSite(Everything(), BLOCKED).fetch(url, timeout=1.0)
    assert isinstance(found, PageError)
    assert "blocked here" in found.text


@pytest.mark.parametrize("url", OUT)
def test_others_are_left_alone(url: str) -> None:
    assert BlockedSite(Everything(), BLOCKED).fetch(url, timeout=1.0) == Document(url, "text")


@pytest.mark.parametrize("blocked", ["straße.example", "STRASSE.example", "xn--strae-oqa.example"])
@pytest.mark.parametrize("host", ["straße.example", "www.xn--strae-oqa.example", "XN--STRAE-OQA.example.", "strasse.example"])
def test_both_versions_of_the_rules_for_names_lead_to_one_name(blocked: str, host: str) -> None:
    """HTTP clients follow the newer one, in which "ß" stays, and Python the older one, in which it is "ss"."""
    assert isinstance(BlockedSite(Everything(), [blocked]).fetch(f"https://{host}/x", timeout=1.0), PageError)


def test_a_part_of_a_name_that_python_cannot_read_hides_no_domain() -> None:
    """Right-to-left letters with a digit at the end: a valid name by the newer rules."""
    blocked = BlockedSite(Everything(), ["bücher.example"])
    for host in ("xn--1-zhcd.xn--bcher-kva.example", "אב1.bücher.example", f"{'ä' * 70}.bücher.example"):
        assert isinstance(blocked.fetch(f"https://{host}/x", timeout=1.0), PageError)


def test_where_a_url_leads_counts() -> None:
    found = BlockedSite(Everything(), BLOCKED).fetch("https://short.example/to/https://www.bad.example/1", timeout=1.0)
    assert found == PageError("pages of bad.example are blocked here. Use other pages")


@given(st.lists(st.sampled_from([*IN, *OUT]), max_size=40), st.integers(1, 12))
def test_a_search_shows_the_first_results_that_are_not_blocked(urls: list[str], count: int) -> None:
    found = BlockedSite(Everything(urls), BLOCKED).search("x", count, timeout=1.0)
    assert isinstance(found, list)
    assert [hit.url for hit in found] == [url for url in urls if url in OUT][:count]


def test_a_search_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    now, given = [0.0], []

    class Slow(Everything):
        def search(self, query: str, count: int, *, timeout: float) -> Any:
            now[0] += 6.0
            given.append(timeout)
            return super().search(query, count, timeout=timeout)

    monkeypatch.setattr("arpo_envs.tools.browser.blocked_site.time", SimpleNamespace(monotonic=lambda: now[0]))
    found = BlockedSite(Slow([OUT[0], *[IN[0]] * 99]), BLOCKED).search("x", 3, timeout=15.0)
    assert given == [15.0, 9.0, 3.0]
    assert [hit.url for hit in found] == [OUT[0]]


def test_what_the_source_says_of_itself_is_passed_on() -> None:
    site = BlockedSite(WorldSite(load_world(2)), ["world.example"])
    assert isinstance(site, PageSource)
    assert (site.searches, site.trusted) == (True, True)
    assert site.name.endswith("without world.example")
    assert pickle.loads(pickle.dumps(site)).name == site.name
    assert BlockedSite(Everything(), BLOCKED).search("broken", 3, timeout=1.0) == PageError("broken")


@given(st.text())
def test_any_text_has_a_host_or_none(text: str) -> None:
    assert is_within(text, ()) is False
    BlockedSite(Everything([text]), BLOCKED).search("x", 1, timeout=1.0)


@pytest.mark.parametrize("domains", ["bad.example", [], [""], ["https://bad.example"], ["bad.example/x"], ["*.bad.example"]])
def test_what_is_no_domain_is_refused(domains: Any) -> None:
    with pytest.raises(ConfigError, match="domain"):
        BlockedSite(Everything(), domains)
    if domains:
        with pytest.raises(ConfigError, match="domain"):
            LiveSearchTool("serper", blocked=domains)
