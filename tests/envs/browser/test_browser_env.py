"""`ARPO/Browser-v0`: an expert needs the fewest clicks, only the last page states the answer, and splits share no page."""

import itertools
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import arpo_envs
from arpo_envs.dialects import Call
from arpo_envs.envs.browser import BrowserEnv
from arpo_envs.errors import ConfigError
from arpo_envs.tasks.text import fold
from arpo_envs.tasks.web import LinkedQuestions, fewest_clicks
from arpo_envs.tasks.world import load_world
from arpo_envs.tools.browser import Page, read

KOELN = {"task": "city-2886242/country/capital"}
SPLITS = ("train", "validation", "test")


def make(**arguments: Any) -> BrowserEnv:
    return BrowserEnv(**{"split": "test", "cities_per_country": 10, **arguments})


def played(env: BrowserEnv, *, seed: int, perfect: bool = True) -> tuple[float, dict[str, Any]]:
    """Returns the reward and the last info of an episode that the demonstrator plays."""
    env.reset(seed=seed)
    source = env.tasks
    assert isinstance(source, LinkedQuestions)
    for move, text in source.demonstrate(env.task, np.random.default_rng(seed), perfect=perfect):
        action = env.dialect.answer(text) if move == "answer" else env.dialect.call(move, json.loads(text))
        _, reward, _, _, info = env.step(action)
    return reward, info


def test_a_whole_episode() -> None:
    env = make()
    question, info = env.reset(seed=1, options=KOELN)
    assert question == "What is the capital of the country of Köln?\nStart page: https://world.example/city-2886242"
    assert (info["clicks"], info["optimal_clicks"]) == (0, 1)
    observation, *_, info = env.step('<browser.open>{"id": "https://world.example/city-2886242"}</browser.open>')
    assert "L4:   * country: 【0†Germany】" in observation
    assert (info["status"], info["tool"], info["clicks"]) == ("ok", "browser.open", 0)
    observation, *_, info = env.step('<think>Germany, then</think><browser.open>{"id": 0}</browser.open>')
    assert "capital: 【0†Berlin】" in observation
    assert info["clicks"] == 1
    observation, *_ = env.step("<browser.find>capital</browser.find>")
    assert "【0†match at L5】" in observation
    _, reward, terminated, _, info = env.step("<answer>Berlin</answer>")
    assert (reward, terminated, info["success"], info["clicks"]) == (1.0, True, 1.0, 1)


@pytest.mark.parametrize("dialect", ["tags", "json"])
@pytest.mark.parametrize("hops", [2, 3, 4])
def test_the_expert_is_right_with_the_fewest_clicks(hops: int, dialect: str) -> None:
    env = make(hops=hops, dialect=dialect, cities_per_country=20)
    for seed in range(40):
        reward, info = played(env, seed=seed)
        assert (reward, info["success"]) == (1.0, 1.0)
        assert 1 <= info["optimal_clicks"] <= info["clicks"] == hops - 1


def test_efficiency_is_success_weighted_by_the_clicks_that_were_needed() -> None:
    env, opening = make(), '<browser.open>{"id": 0}</browser.open>'
    assert env.measures() == {}, "nothing has begun"
    for seed in range(5):
        played(env, seed=seed)
        assert env.measures() == {"efficiency": 1.0}
    env.reset(seed=1, options=KOELN)
    env.step("<browser.open>{}</browser.open>")
    for _ in range(3):
        env.step(opening)
        env.step('<browser.open>{"id": "https://world.example/city-2886242"}</browser.open>')
    wrong = arpo_envs.clone(gym.Wrapper(env))
    assert env.measures() == {"efficiency": 0.0}, "there is no answer yet"
    assert env.step("<answer>Berlin</answer>")[4]["clicks"] == 3
    assert env.measures() == {"efficiency": 1 / 3}, "one click would have done"
    wrong.step("<answer>Bonn</answer>")
    assert wrong.get_wrapper_attr("measures")() == {"efficiency": 0.0}
    env.close()
    assert env.measures() == {"efficiency": 1 / 3}
    env.reset(seed=1, options=KOELN)
    env.step("<answer>Berlin</answer>")
    assert env.measures() == {"efficiency": 1.0}, "memory needs no click"


def test_habits_are_worse_than_the_expert() -> None:
    env = make()
    rewards = [played(env, seed=seed, perfect=False)[0] for seed in range(60)]
    assert 0.05 < np.mean([reward == 1.0 for reward in rewards]) < 0.4


@pytest.mark.parametrize("hops", [2, 3, 4])
def test_no_page_before_the_last_one_states_the_answer(hops: int) -> None:
    source = LinkedQuestions(hops=hops, split="train", world=load_world(20))
    rng = np.random.default_rng(5)
    for _ in range(150):
        task = source.draw(rng)
        urls = [source.site.url(source.site.world.number(entity)) for entity in task.meta["entities"]]
        pages = [read(source.site, url) for url in urls]
        stated = [fold(task.answers[0]) in facts(page) for page in pages]
        assert stated == [False] * (hops - 1) + [True]
        assert all(url in page.links for page, url in zip(pages, urls[1:], strict=False) if isinstance(page, Page))
        assert urls[0] == task.meta["start"]


def facts(page: object) -> set[str]:
    """Returns what a page states: the values of its list, without links."""
    assert isinstance(page, Page)
    from arpo_envs.tools.browser.page import without_links

    lines = without_links(page.text).split("\n")
    return {fold(line.partition(": ")[2]) for line in lines if ": " in line}


@pytest.mark.parametrize("hops", [2, 3])
def test_optimal_clicks_are_those_of_a_search_of_the_whole_way(hops: int) -> None:
    source = LinkedQuestions(hops=hops, split="train", world=load_world(5))
    rng = np.random.default_rng(2)
    for _ in range(25):
        task = source.draw(rng)
        target = source.site.url(source.site.world.number(task.meta["entities"][-1]))
        assert task.meta["optimal_clicks"] == fewest_clicks(source.links, task.meta["start"], {target}, at_most=9)


def test_splits_share_no_page() -> None:
    seen = {}
    for split in SPLITS:
        source = LinkedQuestions(hops=2, split=split, world=load_world(10))
        rng = np.random.default_rng(0)
        seen[split] = {page for _ in range(400) for page in source.draw(rng).meta["entities"]}
    assert all(seen[a].isdisjoint(seen[b]) for a, b in itertools.combinations(SPLITS, 2))


def test_no_single_answer_pays() -> None:
    assert make().tasks.majority_baseline() <= 0.02  # type: ignore[attr-defined]


def test_links_are_the_only_way() -> None:
    env = make()
    env.reset(seed=1, options=KOELN)
    assert [spec.name for spec in env.tool_specs] == ["browser.open", "browser.find"]
    observation, *_, info = env.step('<browser.open>{"id": "https://world.example/country-DE"}</browser.open>')
    assert "only the start page" in observation
    assert (info["status"], info["tool_calls"]) == ("not_found", 1)


def test_a_fork_goes_its_own_way() -> None:
    env = gym.make("ARPO/Browser-v0", cities_per_country=10, split="test")
    env.reset(seed=1, options=KOELN)
    env.step("<browser.open>{}</browser.open>")
    snapshot, twin = arpo_envs.snapshot(env), arpo_envs.clone(env)
    assert snapshot.portable
    assert env.step('<browser.open>{"id": 0}</browser.open>')[4]["clicks"] == 1
    assert "[1] Köln" in twin.step("<browser.open>{}</browser.open>")[0]
    arpo_envs.restore(env, snapshot)
    assert env.step('<browser.open>{"id": 0}</browser.open>')[0].startswith("<result>[1] Germany")


def test_own_pages_and_questions(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<a href='b.html'>B</a>", encoding="utf-8")
    (tmp_path / "site" / "b.html").write_text("<p>The word is walrus.</answer>", encoding="utf-8")
    task = {"question": "Which word?", "answer": "walrus", "start": "https://docs.example/index.html", "optimal_clicks": 1}
    (tmp_path / "tasks.jsonl").write_text(json.dumps(task), encoding="utf-8")
    env = BrowserEnv(tasks=tmp_path / "tasks.jsonl", site=tmp_path / "site", back=True)
    env.reset(seed=0)
    env.step(env.dialect.call("browser.open", {}))
    assert "The word is walrus." in env.step(env.dialect.call("browser.open", {"id": 0}))[0]
    assert env.dialect.parse(env.dialect.call("browser.back", {})) == Call("browser.back", {})
    _, reward, _, _, info = env.step(env.dialect.answer("walrus"))
    assert (reward, info["clicks"], info["optimal_clicks"]) == (1.0, 1, 1)
    (tmp_path / "tasks.jsonl").write_text(json.dumps({"question": "Which word?", "answer": "walrus"}), encoding="utf-8")
    env = BrowserEnv(tasks=tmp_path / "tasks.jsonl", site=tmp_path / "site")
    env.reset(seed=0)
    assert env.step(env.dialect.answer("walrus"))[4]["optimal_clicks"] == -1
    assert env.measures() == {}, "nobody knows how few clicks would do"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"hops": 1}, r"hops must lie in 2\.\.4"),
        ({"hops": 5}, r"hops must lie in 2\.\.4"),
        ({"site": "x"}, "site= needs tasks="),
        ({"split": "tset"}, "Did you mean 'test'"),
        ({"addresses": "all"}, "Unknown addresses"),
        ({"view_tokens": 0}, "at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(**arguments)
