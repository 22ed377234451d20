"""`ActionMenu`: numbers stand for actions; `phrases`: what can be looked up or answered."""

from collections import defaultdict

import gymnasium as gym
import numpy as np
import pytest
from toys import TownEnv, Walk

from arpo_envs import ConfigError, clone, restore, snapshot
from wrappers import ActionMenu
from wrappers.menus import phrases


def three(env: gym.Env, observation: str) -> list[str]:
    return ["<echo>hi</echo>", f"<note>{len(observation)}</note>", f"<answer>{env.unwrapped.task.answers[0]}</answer>"]


def test_a_number_is_an_action_of_the_menu():
    env = ActionMenu(TownEnv(), 3, three)
    _, info = env.reset(options={"task": "t0"})
    assert info["menu"] == ("<echo>hi</echo>", "<note>18</note>", "<answer>France</answer>")
    assert env.action_space == gym.spaces.Discrete(3)
    observation, *_, info = env.step(0)
    assert observation == "<result>You said hi</result>"
    assert info["menu"][1] == f"<note>{len(observation)}</note>"
    assert env.step(2)[1:3] == (1.0, True)


def test_a_longer_menu_ends_and_a_shorter_one_begins_again():
    env = ActionMenu(TownEnv(), 2, three)
    assert len(env.reset(seed=0)[1]["menu"]) == 2
    env = ActionMenu(TownEnv(), 7, three)
    menu = env.reset(seed=0)[1]["menu"]
    assert menu == (menu[:3] * 3)[:7]


def test_where_there_is_nothing_to_choose_the_action_is_empty():
    env = ActionMenu(TownEnv(), 2, lambda env, observation: [])
    assert env.reset(seed=0)[1]["menu"] == ("", "")
    assert env.step(1)[4]["status"] == "mistake"


def test_it_forks():
    env = ActionMenu(TownEnv(), 6)
    env.reset(options={"task": "t0"})
    env.step(0)
    twin = clone(env)
    with snapshot(env) as snap:
        last = env.last()
        wanted = env.step(2)
        assert twin.step(2) == wanted
        twin.reset(options={"task": "t1"})
        assert restore(env, snap) == last
        assert env.step(2) == wanted


def test_clones_share_what_makes_their_menus():
    class Model:
        """Cannot be copied."""

        asked = 0

        def menu(self, env: gym.Env, observation: str) -> list[str]:
            self.asked += 1
            return three(env, observation)

        def __deepcopy__(self, memo) -> None:
            raise TypeError("it cannot be copied")

    model = Model()
    env = ActionMenu(TownEnv(), 3, model.menu)
    env.reset(seed=0)
    clone(env).step(0)
    assert model.asked == 2


def test_phrases_are_looked_up_with_each_tool_and_answered():
    env = TownEnv()
    env.reset(options={"task": "t0"})
    assert phrases(env, "Where is Bordeaux?") == [f"<{name}>Where is Bordeaux</{name}>" for name in ("echo", "note", "answer")]


@pytest.mark.parametrize("dialect", ["tags", "json"])
def test_phrases_answer_a_question_in_either_dialect(dialect):
    env = ActionMenu(gym.make("ARPO/Search-v0", split="test", dialect=dialect), 16)
    _, info = env.reset(options={"task": "city-2886242/country/capital"})
    dialect = env.unwrapped.dialect
    for name in ("Köln", "Germany"):
        *_, info = env.step(info["menu"].index(dialect.call("search", {"query": name})))
    *_, info = env.step(info["menu"].index(dialect.answer("Berlin")))
    assert info["success"] == 1.0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What is the area of the country of Sector 6?", ["Sector 6", "What is the area"]),
        (
            "<result>Niger: country in Africa; ISO code NER; area 1,267,000 square kilometres.</result>",
            ["Niger", "Africa", "ISO code NER", "1,267,000 square kilometres"],
        ),
        ("internet domain .am; time zone Asia/Yerevan", [".am", "Asia/Yerevan"]),
        ("Paris; paris; Paris", ["Paris"]),
        ("nothing here", []),
        ("", []),
    ],
)
def test_phrases_of_a_text(text, found):
    env = TownEnv()
    assert phrases(env, text)[2::3] == [f"<answer>{phrase}</answer>" for phrase in found]


def test_a_table_learns_the_way_to_an_answer():
    """Q-learning, with texts as states: two searches, then the answer."""
    env = ActionMenu(gym.make("ARPO/Search-v0", split="test"), 12)
    table: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(12))
    rng = np.random.default_rng(0)

    def episode(exploring: float) -> float:
        state, _ = env.reset(options={"task": "city-2886242/country/capital"})
        while True:
            action = int(rng.integers(12)) if rng.random() < exploring else int(table[state].argmax())
            following, reward, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
            target = reward + (0.0 if over else 0.9 * table[following].max())
            table[state][action] += 0.5 * (target - table[state][action])
            if over:
                return float(reward)
            state = following

    before = [episode(1.0) for _ in range(200)]
    for _ in range(1000):
        episode(0.5)
    assert sum(reward == 1.0 for reward in before) < 20
    assert episode(0.0) == 1.0


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        ActionMenu(TownEnv(), 0)
    with pytest.raises(ConfigError, match="menu='nowhere:menu' cannot be imported"):
        ActionMenu(TownEnv(), 2, "nowhere:menu")
    with pytest.raises(ConfigError, match="needs an environment with a dialect"):
        phrases(Walk(), "")
