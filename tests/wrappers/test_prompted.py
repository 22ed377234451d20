"""`Prompted` changes what a policy is told, and nothing else; an example is never about the question that is asked."""

from collections.abc import Callable

import gymnasium as gym
import pytest
from toys import TownEnv

from arpo_envs import ConfigError, clone, find_prompt, restore, snapshot
from wrappers import Prompted, ToolBudget, Transcript, TurnLimit

WHERE = [[f"Where is {town}?", f"<answer>{land}</answer>"] for town, land in [("Bordeaux", "France"), ("Kyoto", "Japan")]]


def shown(env: gym.Env) -> str:
    return str(env.get_wrapper_attr("examples"))


def test_without_arguments_nothing_changes() -> None:
    assert Prompted(TownEnv()).instructions == TownEnv().instructions


def test_examples_are_shown_in_their_order_also_to_chat_models() -> None:
    env = Prompted(TownEnv(), examples=WHERE)
    assert (env.instructions, [*env.examples]) == (TownEnv().instructions, WHERE)
    chat = Transcript(env)
    chat.reset(options={"task": "t2"})
    roles = ["system", "user", "assistant", "user", "assistant", "user"]
    assert [one["role"] for one in chat.messages] == roles
    assert [one["content"] for one in chat.messages[1:]] == [*WHERE[0], *WHERE[1], "Where is Quito?"]


@pytest.mark.parametrize("task", ["t0", "t1", "t2"])
def test_the_question_that_is_asked_is_never_an_example(task: str) -> None:
    env = Prompted(TownEnv(), examples=WHERE, shown=1)
    question, _ = env.reset(options={"task": task})
    assert question not in shown(env)
    assert len(env.examples) == 1
    twin = clone(env)
    assert shown(twin) == shown(env)
    before = snapshot(env)
    env.reset(options={"task": "t0"})
    restore(env, before)
    assert shown(env) == shown(twin), "it is about the restored question"
    before.close()


@pytest.mark.parametrize("told_more", [lambda env: TurnLimit(env, 3), lambda env: ToolBudget(env, 2)])
def test_nor_is_it_where_more_is_told_after_the_question(told_more: Callable[[gym.Env], gym.Env]) -> None:
    env = Prompted(told_more(TownEnv()), examples=WHERE)
    question, _ = env.reset(options={"task": "t0"})
    assert question != WHERE[0][0]
    assert [*env.examples] == WHERE[1:]


def test_examples_of_a_mixture_are_those_of_the_episodes_environment() -> None:
    common = {"cities_per_country": 3}
    env = gym.make("ARPO/Mixture-v0", envs={"ARPO/Search-v0": 1, "ARPO/Browser-v0": 1}, **common)
    examples = {"ARPO/Search-v0": [["Search?", "<answer>a</answer>"]], "ARPO/Browser-v0": [["Browse?", "<answer>b</answer>"]]}
    env = Prompted(env, "paper", examples)
    seen = set()
    for seed in range(8):
        _, info = env.reset(seed=seed)
        seen.add(info["env"])
        assert ("Search?" in shown(env), "Browse?" in shown(env)) == (
            info["env"] == "ARPO/Search-v0",
            info["env"] != "ARPO/Search-v0",
        )
        assert ("<browser.open>" in env.instructions) == (info["env"] == "ARPO/Browser-v0"), "the tools are its own, too"
    assert seen == set(examples)
    env.close()


def test_every_environment_of_a_mixture_must_fit_the_prompt() -> None:
    env = gym.make("ARPO/Mixture-v0", envs={"ARPO/Search-v0": 1, "ARPO/Browser-v0": 1}, cities_per_country=3)
    with pytest.raises(ConfigError, match="is about a tool called search"):
        Prompted(env, "search-r1")
    env.close()


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'paper'"):
        Prompted(TownEnv(), "papper")

    class Mute(gym.Env):
        pass

    with pytest.raises(ConfigError, match="Mute has no dialect"):
        Prompted(Mute(), "paper")


@pytest.mark.parametrize(
    ("options", "hint"), [({"examples": [[]]}, "An example is empty"), ({"shown": -1}, "shown must not be negative")]
)
def test_arguments_that_make_no_sense_are_refused(options: dict, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        Prompted(TownEnv(), **options)


def test_the_prompts_are_public() -> None:
    assert find_prompt("search-r1").name == "search-r1"
