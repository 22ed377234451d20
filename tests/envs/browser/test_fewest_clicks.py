"""`optimal_clicks` of the built-in questions, held against a search of a small world's whole web as the browser shows it."""

import re
from collections import deque
from functools import cache

import numpy as np
import pytest

from arpo_envs.tasks import Task
from arpo_envs.tasks.web import LinkedQuestions
from arpo_envs.tasks.world import load_world
from arpo_envs.tools.browser import BrowserSession, BrowserTool, WorldSite

SMALL = 8
"""Cities per country."""


@cache
def displayed() -> dict[str, tuple[str, ...]]:
    """Returns what each page links to, following every link shown from every page that a question may ask of."""
    tool = BrowserTool(WorldSite(load_world(SMALL)), search=False, view_tokens=10**6)
    site: WorldSite = tool.source  # type: ignore[assignment]
    waiting = [site.url(entity) for entity in range(len(site.world.ids))]
    links: dict[str, tuple[str, ...]] = {}
    while waiting:
        url = waiting.pop()
        if url not in links:
            session = tool.open(Task("t", "?", ("x",), {"start": url}), np.random.default_rng(0))
            links[url] = shown(session)
            waiting += links[url]
    return links


def shown(session: BrowserSession) -> tuple[str, ...]:
    """Returns where the links lead that a page displays, each opened by the number that the model would write."""
    result = session.call("browser.open", {}, timeout=5.0)
    assert result.error is None
    numbers = {int(number) for number in re.findall(r"【(\d+)†", result.text)}
    page = session.state.page()
    assert numbers == set(range(len(page.links)))
    return tuple(page.links[number] for number in sorted(numbers))


@cache
def clicks_from(start: str) -> dict[str, int]:
    """Returns how many clicks every page is away, by a search that knows nothing of `fewest_clicks`."""
    found, waiting = {start: 0}, deque([start])
    while waiting:
        url = waiting.popleft()
        for link in displayed()[url]:
            if link not in found:
                found[link] = found[url] + 1
                waiting.append(link)
    return found


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("hops", [2, 3, 4])
def test_no_way_is_shorter_than_the_one_that_is_told(hops: int, split: str) -> None:
    source = LinkedQuestions(hops=hops, split=split, world=load_world(SMALL))
    seen = set()
    for task in source.questions():
        target = source.site.url(source.site.world.number(task.meta["entities"][-1]))
        assert task.meta["optimal_clicks"] == clicks_from(task.meta["start"])[target], task.id
        seen.add(task.meta["optimal_clicks"])
    assert seen == set(range(1, hops)), "with more than two pages, some questions have a shorter way than the one they name"
