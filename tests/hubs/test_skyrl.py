"""SkyRL-gym: its own `make`, and the loop of its generator."""

from typing import Any

import pytest
import skyrl_gym
from episodes import IDS, SEED, recorded

from arpo_envs.errors import ConfigError
from arpo_envs.hubs import skyrl


def loop(env: Any, actions: tuple[str, ...], prompt: list[dict[str, str]]) -> tuple[list[dict[str, str]], list[Any]]:
    """Plays as SkyRL's generator does: each output is appended with the observations, until `done`."""
    history, _ = env.init(prompt)
    outputs = []
    for action in actions:
        outputs.append(env.step(action))
        history += [{"role": "assistant", "content": action}, *outputs[-1]["observations"]]
        if outputs[-1]["done"]:
            break
    return history, outputs


@pytest.fixture
def registered():
    names = []

    def register(env_id: str, **arguments: Any) -> str:
        names.append(skyrl.register(env_id, **arguments))
        return names[-1]

    yield register
    for name in names:
        skyrl_gym.envs.registration.deregister(name)


@pytest.mark.parametrize("env_id", IDS)
def test_an_episode_is_the_same_as_without_it(registered, env_id):
    expert = recorded(env_id)
    with skyrl_gym.make(registered(env_id, **expert.arguments), env_config=None, extras={"seed": SEED}) as env:
        history, outputs = loop(env, expert.actions, [])
        metrics = env.get_metrics()
    assert history[0]["role"] == "system"
    assert tuple(m["content"] for m in history if m["role"] == "user") == expert.observations[:-1]
    assert tuple(m["content"] for m in history if m["role"] == "assistant") == expert.actions
    assert tuple(output["reward"] for output in outputs) == expert.rewards
    assert [output["done"] for output in outputs] == [False] * (len(expert.actions) - 1) + [True]
    assert {output["postprocessed_action"] for output in outputs} == {None}
    assert metrics["success"] == 1
    assert env.aggregate_metrics([metrics, {**metrics, "success": 0}])["success"] == 0.5


def test_a_row_chooses_its_task_and_prompt(registered):
    expert = recorded("ARPO/SearchMini-v0")
    name = registered(expert.env_id, name="mini", **expert.arguments)
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ""}]
    with skyrl_gym.make(name, extras={"task": expert.task, "data_source": "arpo", "max_turns": 9}) as env:
        messages, info = env.init(prompt)
    assert messages == [prompt[0], {"role": "user", "content": expert.observations[0]}]
    assert info["task"] == expert.task


def test_its_own_limit_of_turns_pays_what_no_answer_pays(registered):
    expert = recorded("ARPO/SearchMini-v0")
    with skyrl_gym.make(registered(expert.env_id), extras={"seed": SEED, "max_turns": 2}) as env:
        _, outputs = loop(env, expert.actions, [])
    assert [(output["reward"], output["done"]) for output in outputs] == [(0, False), (-1, True)]


def test_garbage_is_the_models_mistake_and_what_is_no_text_is_refused(registered):
    with skyrl_gym.make(registered("ARPO/SearchMini-v0"), extras={"seed": SEED}) as env:
        env.init([])
        assert "No tool call and no answer" in env.step("\x00garbage")["observations"][0]["content"]
        for action in ("x" * 10_000_000, "\ud800", b"x", None):
            with pytest.raises(ConfigError, match="An action is text of at most 1,048,576 characters"):
                env.step(action)
        assert env.step("<answer>x</answer>")["done"]
        with pytest.raises(Exception, match="The episode is over"):
            env.step("<answer>x</answer>")
    with pytest.raises(skyrl_gym.error.RegistrationError, match="already registered"):
        registered("ARPO/SearchMini-v0")
