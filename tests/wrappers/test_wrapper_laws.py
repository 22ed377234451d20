"""The laws of forking for every wrapper on every registered environment, and for stacks of two, Gymnasium's own among them."""

import itertools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
from envs.test_laws import IDS, QUICK, SMALL, made
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit, TransformReward

import wrappers
from arpo_envs import TextSpace, clone
from arpo_envs.testing import Law, check_forkable_env
from arpo_envs.testing.runs import difference
from arpo_envs.testing.scripts import default_scripts
from arpo_envs.vector import ForkableVectorEnv
from wrappers import (
    ActionMenu,
    ChatMessages,
    Prompted,
    TextVector,
    TokenBudget,
    TokenIds,
    ToolBudget,
    Transcript,
    TruncateObservation,
    TurnLimit,
    UnreliableTools,
)

Wrap = Callable[[gym.Env], gym.Env]

TEXT: dict[str, Wrap] = {
    "Prompted": lambda env: Prompted(env, "paper", [["Where?", "<answer>Here</answer>"]]),
    "TokenBudget": lambda env: TokenBudget(env, "builtins:len", limit=1500, reserve=400),
    "ToolBudget": lambda env: ToolBudget(env, 2),
    "Transcript": Transcript,
    "TruncateObservation": lambda env: TruncateObservation(env, 160, 60),
    "TurnLimit": lambda env: TurnLimit(env, 5),
    "UnreliableTools": lambda env: UnreliableTools(env, error_rate=0.3, timeout_rate=0.2, latency=0.1, sleep="builtins:abs"),
}
"""Those that take text and return text, so that anything goes around them."""
OTHERS: dict[str, Wrap] = {
    "ActionMenu": lambda env: ActionMenu(env, 12),
    "ChatMessages": ChatMessages,
    "TextVector": lambda env: TextVector(env, 32),
    "TokenIds": lambda env: TokenIds(env, "toys:Letters"),
}
GYMNASIUM: dict[str, Wrap] = {
    "TimeLimit": lambda env: TimeLimit(env, 4),
    "RecordEpisodeStatistics": RecordEpisodeStatistics,
    "TransformReward": lambda env: TransformReward(env, abs),
}
OURS = TEXT | OTHERS
ALL = OURS | GYMNASIUM

STACKS = [
    *((outer, inner) for outer in ALL for inner in TEXT),
    *((outer, inner) for outer in OURS for inner in GYMNASIUM),
    *((outer, inner) for outer in GYMNASIUM for inner in OTHERS),
    ("TextVector", "ActionMenu"),
]

HEAVY = dict.fromkeys(("ARPO/Python-v0", "ARPO/DeepSearch-v0"), pytest.mark.slow)
"""Environments whose laws take long; `test_laws` always checks them in one stack."""
LIGHT = [name for name in IDS if name != QUICK and name not in HEAVY]

MAY_SKIP = {Law.RESEED, Law.PORTABLE, Law.TIMEOUT, Law.SECRETS}
"""Laws that a stack may have nothing to show of: where nothing is drawn, or slow, or runs code."""


def check(name: str, wrap: Wrap, seeds: tuple[int, ...]) -> None:
    report = check_forkable_env(lambda: wrap(made(name)), seeds=seeds, actions=scripts(name, wrap))
    assert set(report.skipped) <= MAY_SKIP, str(report)


def scripts(name: str, wrap: Wrap) -> list[list[Any]] | None:
    """Returns two episodes, one that ends with an answer and one that runs out of turns, as a stack wants them.

    The kit's third, a call and an answer, is what the first ends with; `test_laws` has it too. Without any, the kit writes some
    for a stack that takes neither texts nor ids.
    """
    stack = wrap(made(name))
    space = stack.action_space
    stack.close()
    if not isinstance(space, TextSpace | gym.spaces.Sequence):
        return None
    env = made(name)
    question, _ = env.reset(seed=0)
    texts = default_scripts(env, question)[:2]
    env.close()
    return texts if isinstance(space, TextSpace) else [[list(text.encode()) for text in script] for script in texts]


def test_nothing_is_forgotten():
    exported = {name for name in wrappers.__all__ if issubclass(getattr(wrappers, name), gym.Wrapper)}
    assert set(OURS) == exported


@pytest.mark.turns("seed")
@pytest.mark.parametrize("wrapper", OURS)
@pytest.mark.parametrize("seed", [0, 1])
def test_forks_by_the_laws(wrapper, seed):
    check(QUICK, OURS[wrapper], (seed,))


@pytest.mark.turns("wrapper", often=2)
@pytest.mark.parametrize("name", [pytest.param(name, marks=HEAVY.get(name, ())) for name in IDS if name != QUICK])
@pytest.mark.parametrize("wrapper", OURS)
def test_forks_by_the_laws_around_every_environment(name, wrapper):
    check(name, OURS[wrapper], (0,))


@pytest.mark.turns("inner", often=2)
@pytest.mark.parametrize(("outer", "inner"), STACKS)
def test_stacks_of_two_fork_by_the_laws(outer, inner):
    check(QUICK, lambda env: ALL[outer](ALL[inner](env)), (0,))


@pytest.mark.turns("stack", often=1)
@pytest.mark.parametrize(
    ("name", "stack"),
    [
        pytest.param(name, stack, id=f"{name}-{'-'.join(stack)}")
        for name, stack in zip(itertools.cycle(LIGHT), STACKS[::4], strict=False)  # all are checked around one above
    ],
)
def test_each_stack_of_two_forks_by_the_laws_around_another_environment(name, stack):
    outer, inner = stack
    check(name, lambda env: ALL[outer](ALL[inner](env)), (0,))


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
@pytest.mark.parametrize("wrapper", OURS)
def test_gymnasium_accepts_it(wrapper):
    check_env(OURS[wrapper](made(QUICK)), skip_render_check=True)


@pytest.mark.parametrize("wrapper", OURS)
def test_any_action_is_answered_within_the_space(wrapper):
    env = OURS[wrapper](made(QUICK))
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    env.action_space.seed(0)
    for _ in range(40):
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        assert observation in env.observation_space
        if terminated or truncated:
            env.reset()


@pytest.mark.parametrize("wrapper", OURS)
def test_rows_of_a_vector_are_like_those_alone(wrapper):
    envs = gym.vector.SyncVectorEnv([lambda: OURS[wrapper](made(QUICK))] * 2, copy=True)
    together, _ = envs.reset(seed=[1, 2])
    alone = [OURS[wrapper](made(QUICK)) for _ in range(2)]
    for row, env in enumerate(alone):
        assert difference(together[row], env.reset(seed=row + 1)[0], "observation") is None
        env.action_space.seed(row)
    actions = [env.action_space.sample() for env in alone]
    together, rewards, *_ = envs.step(tuple(actions))
    for row, env in enumerate(alone):
        observation, reward, *_ = env.step(actions[row])
        assert difference(together[row], observation, "observation") is None
        assert rewards[row] == reward
    envs.close()


@pytest.mark.parametrize("wrapper", OURS)
def test_a_row_of_a_vector_is_forked_with_it(wrapper):
    envs = ForkableVectorEnv([lambda: OURS[wrapper](made(QUICK))] * 3, AutoresetMode.DISABLED)
    envs.reset(seed=[1, 2, 3])
    space = envs.single_action_space
    space.seed(0)
    envs.step([space.sample() for _ in range(3)])
    twin = clone(envs.envs[0])
    envs.fork(0, [1, 2])
    ended = False
    while not ended:
        action = space.sample()
        observation, reward, ended, truncated, info = twin.step(action)
        together = envs.step([action] * 3)
        for row in range(3):
            assert difference(together[0][row], observation, "observation") is None
            assert [part[row] for part in together[1:4]] == [reward, ended, truncated]
            assert together[4]["turn"][row] == info["turn"]
        ended = ended or truncated
    twin.close()
    envs.close()


@pytest.mark.parametrize("wrapper", OURS)
def test_specs_serialise(wrapper):
    env = OURS[wrapper](made(QUICK))
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert difference(env.reset(seed=4), again.reset(seed=4), "reset") is None
    env.action_space.seed(0)
    over = False
    while not over:
        action = env.action_space.sample()
        one, other = env.step(action), again.step(action)
        assert difference(one, other, "step") is None
        over = one[2] or one[3]


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("wrapper", OURS)
def test_every_environment_can_be_wrapped(name, wrapper):
    env = OURS[wrapper](gym.make(name, **SMALL.get(name, {})))
    assert env.unwrapped.spec.id == name
    env.close()
