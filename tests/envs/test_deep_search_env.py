"""`ARPO/DeepSearch-v0`: an expert needs as many calls as it says, all tools share an episode, and forks are exact."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import arpo_envs
from arpo_envs.envs.deep_search import DeepSearchEnv
from arpo_envs.errors import ConfigError
from arpo_envs.forking import ForkLevel, clone, fork_level
from arpo_envs.rewards import HierarchicalReward
from arpo_envs.tasks.deep import DeepQuestions
from arpo_envs.tasks.world import SPLITS
from arpo_envs.tools.browser import BrowserTool, FolderSite
from arpo_envs.tools.python import SandboxUnavailable

QUICK = {"imports": []}
THORIUM = {"task": "test-short-1-77"}


@pytest.fixture(scope="module", autouse=True)
def _sandbox() -> None:
    """Needs the local interpreter; skips by name where this machine has none."""
    env = make()
    try:
        env.reset(seed=0)
    except SandboxUnavailable as missing:
        pytest.skip(f"the local Python interpreter: {missing}")
    finally:
        env.close()


def make(**arguments: Any) -> DeepSearchEnv:
    return DeepSearchEnv(**{"split": "test", "cities_per_country": 10, "interpreter": QUICK, **arguments})


def written(env: DeepSearchEnv, move: str, text: str) -> str:
    if move == "answer":
        return env.dialect.answer(text)
    spec = next(spec for spec in env.tool_specs if spec.name == move)
    return env.dialect.call(move, {spec.text_parameter: text} if spec.text_parameter else json.loads(text))


def played(env: DeepSearchEnv, *, seed: int, perfect: bool = True) -> tuple[float, dict[str, Any]]:
    """Returns the reward and the last info of an episode that the demonstrator plays."""
    env.reset(seed=seed)
    assert isinstance(env.tasks, DeepQuestions)
    for move, text in env.tasks.demonstrate(env.task, np.random.default_rng(seed), perfect=perfect):
        observation, reward, _, _, info = env.step(written(env, move, text))
        assert info["status"] in ("ok", "answered"), observation
    return float(reward), info


EXPERT = [(split, "short", difficulty, 200) for split in SPLITS for difficulty in range(1, 6)]
EXPERT += [(split, "long", difficulty, 4) for split in SPLITS for difficulty in range(1, 6)]


@pytest.mark.parametrize(
    ("split", "horizon", "difficulty", "count"),
    [("test", horizon, difficulty, count) for horizon, count in (("short", 40), ("long", 2)) for difficulty in (1, 5)]
    + [pytest.param(*case, marks=pytest.mark.slow) for case in EXPERT],
)
def test_the_expert_is_right_in_as_many_calls_as_it_says(split: str, horizon: str, difficulty: int, count: int) -> None:
    env = make(split=split, horizon=horizon, difficulty=difficulty)
    for seed in range(count):
        reward, info = played(env, seed=seed)
        assert (reward, info["success"]) == (1.1, 1.0), "with the bonus: search and python were both used"
        assert info["tool_calls"] == info["optimal_calls"] <= env.max_tool_calls < env.max_turns
        if horizon == "long":
            assert info["optimal_calls"] >= 20
    env.close()


@pytest.mark.parametrize("world", ["real", "counterfactual"])
def test_the_expert_is_right_in_both_dialects_and_worlds(world: str) -> None:
    env = make(difficulty=3, world=world, dialect="json")
    assert [played(env, seed=seed)[0] for seed in range(8)] == [1.1] * 8
    env.close()


def test_habits_are_worse_than_the_expert() -> None:
    env = make()
    rewards = [played(env, seed=seed, perfect=False)[0] for seed in range(60)]
    assert 0.03 < np.mean([reward == 1.1 for reward in rewards]) < 0.4
    env.close()


def test_searches_pages_and_cells_share_an_episode_and_a_fork_copies_them_all() -> None:
    env = make()
    assert fork_level(env) is ForkLevel.EXACT
    env.reset(options=THORIUM)
    env.step("<search>Thorium</search>")
    env.step("<python>x = 5</python>")
    with clone(env) as twin:
        twin.step('<browser.open>{"id": 0}</browser.open>')
        twin.step("<python>x = 6</python>")
        assert "[1] Thorium" in env.step('<browser.open>{"id": 0}</browser.open>')[0], "the cursor is the browser's own"
        assert env.step("<python>x</python>")[0] == "<result>5</result>"
        assert "[2]" in twin.step('<browser.open>{"id": 0, "cursor": 0}</browser.open>')[0]
    assert "match at L5" in env.step("<browser.find>atomic</browser.find>")[0]
    assert env.last()[1]["clicks"] == 1
    env.close()


def test_pages_are_reached_by_search_and_links_only() -> None:
    env = make()
    env.reset(options=THORIUM)
    observation, *_, info = env.step('<browser.open>{"id": "https://world.example/element-90"}</browser.open>')
    assert (info["status"], "only the start page" in observation) == ("not_found", True)
    assert "atomic" not in env.step("<search>Thorium</search>")[0]
    env.close()


def test_what_is_paid_and_asked_by_default() -> None:
    env = make()
    assert env.reward == HierarchicalReward()
    assert [spec.name for spec in env.tool_specs] == ["search", "browser.open", "browser.find", "python"]
    assert "A result of search only says which pages there are." in env.instructions
    assert make(difficulty=5).max_tool_calls > make(difficulty=1).max_tool_calls
    assert (make(max_tool_calls=0).max_turns, make(max_turns=5).max_turns) == (2, 5)


def test_blocked_domains_are_neither_found_nor_opened(tmp_path: Path) -> None:
    env = make(blocked=["world.example"], addresses="any")
    env.reset(options=THORIUM)
    assert "Nothing was found" in env.step("<search>Thorium</search>")[0]
    observation, *_, info = env.step('<browser.open>{"id": "https://world.example/element-90"}</browser.open>')
    assert "pages of world.example are blocked here" in observation
    assert (info["status"], info["clicks"]) == ("not_found", 0)
    tool = env.tools[0]
    assert isinstance(tool, BrowserTool)
    assert "without world.example" in tool.identity
    assert env.identity() != make(addresses="any").identity()
    env.close()


def test_own_pages_and_questions(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "walrus.html").write_text("<title>Walrus</title><p>It has 2 tusks.", encoding="utf-8")
    task = {"question": "How many tusks have 21 walruses?", "answer": "42", "answer_type": "number"}
    (tmp_path / "tasks.jsonl").write_text(json.dumps(task), encoding="utf-8")
    site = FolderSite(tmp_path / "site", show_progress=False)
    env = DeepSearchEnv(tasks=tmp_path / "tasks.jsonl", site=site, interpreter=QUICK)
    env.reset(seed=0)
    assert "【0†Walrus†docs.example】" in env.step("<search>walrus</search>")[0]
    assert "It has 2 tusks." in env.step('<browser.open>{"id": 0}</browser.open>')[0]
    assert env.step("<python>21 * 2</python>")[0] == "<result>42</result>"
    _, reward, _, _, info = env.step("<answer>42</answer>")
    assert (reward, info["optimal_calls"], env.max_tool_calls) == (1.1, -1, 40)
    env.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"difficulty": 6}, "between 1 and 5"),
        ({"horizon": "lang"}, "Did you mean 'long'"),
        ({"site": "x"}, "site= needs tasks="),
        ({"tasks": DeepQuestions(), "difficulty": 1, "split": None}, "difficulty would have no effect"),
        ({"blocked": "world.example"}, "list of names"),
        ({"blocked": ["https://world.example"]}, "is not a domain"),
        ({"backend": "locale"}, "Did you mean 'local'"),
        ({"interpreter": {"memory": 1}}, "Did you mean 'memory_mb'"),
        ({"results": 0}, "at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(**arguments)


def test_it_is_found_by_its_id() -> None:
    env = gym.make("ARPO/DeepSearch-v0", cities_per_country=10, split="test", interpreter=QUICK)
    assert env.reset(options=THORIUM)[0].startswith("Let x be the atomic number of Thorium.")
    assert arpo_envs.layers(env)[-1].details() == {"clicks": 0, "optimal_calls": 3}
    env.close()
