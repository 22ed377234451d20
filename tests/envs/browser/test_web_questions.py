"""Questions about any web: hidden pages are found by following links, only they say the word, and splits share no page."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arpo_envs.envs.browser import BrowserEnv
from arpo_envs.errors import ConfigError
from arpo_envs.tasks.text import fold
from arpo_envs.tasks.web import Web, WebQuestions, crawl, fewest_clicks
from arpo_envs.tasks.web.cloze import GAP, gaps, mentions
from arpo_envs.tools.browser import FolderSite, Page, PageError, PageSource
from arpo_envs.tools.browser.page import without_links

START = "https://docs.example/p0.html"
SPLITS = ("train", "validation", "test")
ANIMALS = ("walrus", "badger", "heron", "marten", "lemming", "ocelot", "puffin", "gibbon")
VERBS = ("follows", "watches", "avoids", "carries", "remembers", "imitates")


def write_site(folder: Path, count: int) -> None:
    """Writes pages with prose in which some others are linked, and one that no link leads to."""
    rng = random.Random(3)
    folder.mkdir()
    for number in range(count):
        said = []
        for other in [(number + 1) % count, *rng.sample(range(count), 3)]:
            words = (
                f"{rng.choice(ANIMALS)} {rng.choice(VERBS)} whatever the {rng.choice(ANIMALS)} of case {rng.randrange(10**6)}"
            )
            said.append(f"<p>As was told before, the {words} did, as in <a href='p{other}.html#x'>that one</a>.")
        own = f"<p>In chapter {number} the keeper of every {rng.choice(ANIMALS)} has the nickname {nickname(number)} at home."
        (folder / f"p{number}.html").write_text(f"<title>Report {number}</title>{''.join(said)}{own}", encoding="utf-8")
    (folder / "lonely.html").write_text("<title>Lonely</title><a href='p0.html'>x</a>", encoding="utf-8")


def nickname(number: int) -> str:
    return "zorba" + "abcdefghij"[number // 10] + "abcdefghij"[number % 10]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> FolderSite:
    folder = tmp_path_factory.mktemp("web") / "site"
    write_site(folder, 60)
    return FolderSite(folder, show_progress=False)


@pytest.fixture(scope="module")
def web(site: FolderSite) -> Web:
    return crawl(site, f"{START}#top", show_progress=False)


def expert(site: PageSource, source: WebQuestions, task_id: str) -> tuple[float, dict[str, Any], list[str]]:
    """Returns the reward, the last info and what was shown."""
    env = BrowserEnv(tasks=source, site=site, max_turns=16, max_tool_calls=14)
    env.reset(options={"task": task_id})
    shown = []
    for move, text in source.demonstrate(env.task, np.random.default_rng(0)):
        action = env.dialect.answer(text) if move == "answer" else env.dialect.call(move, json.loads(text))
        observation, reward, _, _, info = env.step(action)
        shown.append(observation)
    return reward, info, shown


def test_a_crawl_follows_every_link_once(web: Web) -> None:
    assert len(web.pages) == 60
    assert next(iter(web.pages)) == START
    for url, page in web.pages.items():
        assert [link.partition("#")[0] for link in page.links] == list(web.targets[url])
        assert all(url in web.origins[target] for target in web.targets[url] if target != url)


def test_a_crawl_ends_where_it_is_told_to_and_leaves_out_what_cannot_be_read(site: FolderSite) -> None:
    assert len(crawl(site, START, at_most=7, show_progress=False).pages) == 7
    with pytest.raises(ConfigError, match=r"Nothing can be read at https://docs.example/none.html: there is no such page"):
        crawl(site, "https://docs.example/none.html", show_progress=False)


def test_distances_are_those_of_a_search(web: Web) -> None:
    for target in list(web.pages)[::7]:
        distances = web.distances(target)
        for url in web.pages:
            known = fewest_clicks(web.targets.__getitem__, url, {target}, at_most=30)
            assert distances.get(url) == known


def test_pages_that_link_nowhere_or_to_nothing() -> None:
    web = Web({"a": Page("a", "A", "【0†b】 【1†c】", ("b#x", "https://c.example/")), "b": Page("b", "B", "")})
    assert web.targets == {"a": ("b", ""), "b": ()}
    assert web.origins == {"a": (), "b": ("a",)}
    assert (web.distances("b"), web.distances("a")) == ({"b": 0, "a": 1}, {"a": 0})


@pytest.mark.parametrize("split", SPLITS)
def test_an_expert_answers_all_with_the_fewest_clicks(site: FolderSite, web: Web, split: str) -> None:
    source = WebQuestions(web, split=split, clicks=(1, 5))
    assert len(source) >= 3
    for task in source.questions():
        assert task == source.get(task.id)
        reward, info, shown = expert(site, source, task.id)
        assert (reward, info["success"]) == (1.0, 1.0)
        assert 1 <= info["clicks"] == info["optimal_clicks"] <= 5
        assert read_only_here(web, task.question, task.answers[0]) == [task.id]
        assert f"({task.id}" in shown[-2].split("\n")[0]


def read_only_here(web: Web, question: str, word: str) -> list[str]:
    """Returns the pages that say the sentence in which a question leaves a word out."""
    sentence = fold(question.rpartition("is missing in: “")[2].partition("” Which")[0].replace(GAP, word))
    return [url for url, page in web.pages.items() if sentence in fold(without_links(page.text))]


def test_splits_share_no_page(web: Web) -> None:
    seen = {
        split: {page for task in WebQuestions(web, split=split).questions() for page in task.meta["pages"]} for split in SPLITS
    }
    assert all(seen[a].isdisjoint(seen[b]) for a, b in itertools.combinations(SPLITS, 2))


def test_the_page_is_hidden(web: Web) -> None:
    for task in WebQuestions(web, split="train", described_by=3).questions():
        described = task.question.partition("On the page itself")[0].partition("): ")[0]
        title = web.pages[task.id].title
        assert fold(title) not in {fold(part) for part in described.split("“")[1::2]}
        assert task.id not in task.question
        assert fold(task.answers[0]) not in fold(task.question).split()


def test_the_most_frequent_answer_is_counted(web: Web) -> None:
    source = WebQuestions(web)
    answers = [task.answers[0].lower() for task in source.questions()]
    assert source.majority_baseline() == max(map(answers.count, answers)) / len(answers) < 1
    drawn = {source.draw(np.random.default_rng(seed)).id for seed in range(200)}
    assert drawn == {task.id for task in source.questions()}


def test_questions_do_not_depend_on_the_order_or_the_process(site: FolderSite, web: Web) -> None:
    again = crawl(site, START, show_progress=False)
    assert WebQuestions(again, split="test").questions() == WebQuestions(web, split="test").questions()


def test_what_is_said_twice_is_not_asked() -> None:
    text = "In the old days one would have used 【0†this】 for nearly all such things."
    said = "The colour of every lemming in this book is vermilion, or so they say."
    pages = {name: Page(name, name.upper(), f"{text}\n{said if name != 'c' else ''}", ("c",)) for name in ("a", "b", "c")}
    assert mentions(Web(pages)) == {}
    assert gaps(Web(pages)) == {}
    assert gaps(Web({"a": pages["a"]}))["a"].text.count(GAP) == 1
    alone = Web({"a": pages["a"], "c": pages["c"]} | {"c": Page("c", "C", "")})
    (mention,) = mentions(alone)["c"]
    assert mention.text == f"In the old days one would have used {GAP} for nearly all such things."


def test_a_gap_is_never_left_out_though_a_rare_word_is_part_of_a_name() -> None:
    said = "SPI_getnspname returns a copy of the namespace in which that relation lives."
    gap = gaps(Web({"a": Page("a", "A", said)}))["a"]
    assert gap.text.count(GAP) == 1
    assert gap.word not in gap.text
    assert gap.word != "getnspname"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "tset"}, "Did you mean 'test'"),
        ({"clicks": (0, 2)}, "must be \\(fewest, most\\)"),
        ({"clicks": (3, 2)}, "must be \\(fewest, most\\)"),
        ({"described_by": 0}, "must be"),
        ({"clicks": (50, 60)}, "there is no such question"),
    ],
)
def test_what_makes_no_sense_is_refused(web: Web, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        WebQuestions(web, **arguments)


def test_unknown_questions_are_refused(web: Web) -> None:
    with pytest.raises(ConfigError, match="has no question about 'x'"):
        WebQuestions(web).get("x")


def test_a_source_that_fails_in_the_middle_is_only_smaller(site: FolderSite) -> None:
    class Leaky:
        name, searches, trusted = "leaky", False, False

        def fetch(self, url: str, *, timeout: float) -> Any:
            return PageError("gone") if url.endswith("5.html") else site.fetch(url, timeout=timeout)

    assert 40 < len(crawl(Leaky(), START, show_progress=False).pages) <= 54  # type: ignore[arg-type]
