"""SkyRL-gym: its own `make`, and SkyRL's own generator around it."""

import asyncio
import importlib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import skyrl_gym
import typing_extensions
from episodes import IDS, SEED, recorded
from serving import processes_below

from arpo_envs.errors import ConfigError
from arpo_envs.hubs import skyrl
from arpo_envs.testing.probing import settled


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "algorithms"))
        return importlib.import_module("model_toys").byte_tokenizer(chat=True)


@pytest.fixture(scope="module")
def generator_of() -> Any:
    """Returns a maker of SkyRL's generator around an engine; pydantic wants other typed dictionaries than Python 3.11 has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typing, "TypedDict", typing_extensions.TypedDict)
        generators = importlib.import_module("skyrl.train.generators")
        config = importlib.import_module("skyrl.train.config.config")

    def made(engine: Any, turns: int) -> Any:
        settings = config.GeneratorConfig(max_turns=turns, max_input_length=100_000)
        return generators.SkyRLGymGenerator(settings, config.SkyRLGymConfig(max_env_workers=2), engine, engine.tokenizer)

    return made


class Scripted:
    """An inference engine that says what a script says next, in each of the conversations that it is asked about."""

    def __init__(self, tokenizer: Any, actions: Sequence[str]) -> None:
        self.tokenizer, self._actions = tokenizer, actions
        self.prompts: dict[str, list[str]] = {}

    async def generate(self, asked: Any, model: str | None = None) -> dict[str, Any]:
        (ids,), (session,) = asked["prompt_token_ids"], asked["session_ids"]
        prompts = self.prompts.setdefault(session, [])
        action = self._actions[len(prompts)]
        prompts.append(self.tokenizer.decode(ids))
        drawn = [*self.tokenizer.encode(action, add_special_tokens=False), self.tokenizer.eos_token_id]
        return {"responses": [action], "response_ids": [drawn], "stop_reasons": ["stop"]}

    async def finish_session(self, session: str) -> None:
        """Keeps what was asked."""


def generated(generator: Any, name: str, prompt: list[dict[str, str]], count: int = 1, **row: Any) -> dict[str, Any]:
    batch = {"prompts": [prompt] * count, "env_classes": [name] * count, "env_extras": [dict(row) for _ in range(count)]}
    return dict(asyncio.run(generator.generate(batch, disable_tqdm=True)))


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
def test_an_episode_of_its_generator_is_the_same_as_without_it(registered, generator_of, tokenizer, env_id):
    expert = recorded(env_id)
    engine, name = Scripted(tokenizer, expert.actions), registered(env_id, **expert.arguments)
    found = generated(generator_of(engine, 9), name, [], count=2, seed=SEED)
    with skyrl_gym.make(name, extras={"seed": SEED}) as env:
        history, _ = env.init([])
    assert [message["role"] for message in history] == ["system", "user"]
    wanted = []
    for observation, action in zip(expert.observations[1:], expert.actions, strict=True):
        wanted.append(tokenizer.apply_chat_template(history, tokenize=False, add_generation_prompt=True))
        history += [{"role": "assistant", "content": action}, {"role": "user", "content": observation}]
    assert history[1]["content"] == expert.observations[0]
    assert [*engine.prompts.values()] == [wanted] * 2
    said = "".join(action + tokenizer.eos_token for action in expert.actions)
    for ids, mask, rewards in zip(found["response_ids"], found["loss_masks"], found["rewards"], strict=True):
        assert tokenizer.decode([token for token, counts in zip(ids, mask, strict=True) if counts]) == said
        assert rewards[-1] == sum(rewards) == sum(expert.rewards)
    assert [metrics["success"] for metrics in found["env_metrics"]] == [1, 1]
    assert found["rollout_metrics"]["environment/success"] == 1


def test_a_row_chooses_its_task_and_prompt(registered):
    expert = recorded("ARPO/SearchMini-v0")
    name = registered(expert.env_id, name="mini", **expert.arguments)
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ""}]
    with skyrl_gym.make(name, extras={"task": expert.task, "data_source": "arpo", "max_turns": 9}) as env:
        messages, info = env.init(prompt)
    assert messages == [prompt[0], {"role": "user", "content": expert.observations[0]}]
    assert info["task"] == expert.task


def test_its_own_limit_of_turns_pays_what_no_answer_pays(registered, generator_of, tokenizer):
    expert = recorded("ARPO/SearchMini-v0")
    engine = Scripted(tokenizer, expert.actions)
    (rewards,) = generated(generator_of(engine, 2), registered(expert.env_id), [], seed=SEED)["rewards"]
    assert [len(prompts) for prompts in engine.prompts.values()] == [2]
    assert rewards == [0.0] * (len(rewards) - 1) + [-1.0]


def test_a_limit_that_is_none_is_refused(registered):
    name = registered("ARPO/SearchMini-v0")
    for wrong in ("x", 0, 1.5):
        with pytest.raises(ConfigError, match="max_turns is a whole number of at least 1"):
            skyrl_gym.make(name, extras={"max_turns": wrong})
    with skyrl_gym.make(name, extras={"seed": SEED, "max_turns": None}) as env:
        env.init([])
        assert not env.step("<search>x</search>")["done"]


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


def test_after_close_it_says_so_and_nothing_is_left(registered):
    env = skyrl_gym.make(registered("ARPO/Python-v0"), extras={"seed": SEED})
    env.init([])
    env.step("<python>x = 1</python>")
    played = processes_below()
    env.close()
    assert settled(processes_below, played - 1) < played, "its interpreter has ended"
    with pytest.raises(Exception, match="The episode is over"):
        env.step("<python>x</python>")
