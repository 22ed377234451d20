"""PettingZoo's wrappers around a game: each travels with a fork, or is refused by name, however deep it lies."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium.utils import EzPickle
from pettingzoo.utils import BaseParallelWrapper, BaseWrapper

import arpo_envs
from arpo_envs import ForkLevel, NotForkable, SnapshotMismatch
from arpo_envs.multi_agent import deep_search_v0, single_agent

SMALL: dict[str, Any] = {"cities_per_country": 3}


class Counting(BaseWrapper):  # type: ignore[misc]  # PettingZoo says nothing about its types
    """Counts the actions and draws a number for each."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.rng, self.actions = np.random.default_rng(0), 0

    def step(self, action: Any) -> None:
        self.actions += 1
        super().step(action)


class InParallel(BaseParallelWrapper):  # type: ignore[misc]  # as above
    """Holds a generator."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.rng = np.random.default_rng(0)


class MadeAnew(BaseWrapper, EzPickle):  # type: ignore[misc]  # as above
    """Would be copied by making a new one."""

    def __init__(self, env: Any) -> None:
        EzPickle.__init__(self, env)
        BaseWrapper.__init__(self, env)


class Locked(BaseWrapper):  # type: ignore[misc]  # as above
    """Cannot be copied."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.lock = threading.Lock()


class Refusing(BaseWrapper):  # type: ignore[misc]  # as above
    """Says that it cannot be copied."""

    fork_level = ForkLevel.NONE


def begun(env: Any) -> Any:
    env.reset(seed=1)
    return env


def game() -> Any:
    return deep_search_v0.env(**SMALL)


def test_a_wrapper_goes_back_and_forks_with_its_game() -> None:
    env = begun(BaseWrapper(Counting(game())))
    counting = env.env
    env.step("<search>Paris</search>")
    with arpo_envs.snapshot(env) as parked:
        assert parked.owner == "BaseWrapper<Counting<OrderEnforcingWrapper<raw_env>>>"
        twin = parked.spawn()
        env.step("<search>Rome</search>")
        arpo_envs.restore(env, parked)
        assert (counting.actions, twin.env.actions, env.env is counting) == (1, 1, True)
        with pytest.raises(SnapshotMismatch, match="Counting"):
            arpo_envs.restore(begun(BaseWrapper(game())), parked)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Counting(game()),
        lambda: BaseWrapper(Counting(game())).env,
        lambda: InParallel(deep_search_v0.parallel_env(**SMALL)),
        lambda: single_agent(Counting(game()), "solver", reader="extractive"),
    ],
)
def test_what_a_wrapper_draws_is_reseeded_and_so_is_the_game(make: Callable[[], Any]) -> None:
    env = begun(make())

    def drawn(seed: int) -> tuple[float, float]:
        twin = arpo_envs.clone(env, seed=seed)
        layer = getattr(twin, "table", twin)
        return float(layer.rng.random()), float(layer.unwrapped.game.solver.np_random.random())

    first, again, other = drawn(3), drawn(3), drawn(4)
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]


@pytest.mark.parametrize("around", [lambda env: env, BaseWrapper, lambda env: single_agent(env, "solver", reader="extractive")])
@pytest.mark.parametrize(("wrapper", "named"), [(MadeAnew, "MadeAnew"), (Locked, r"Locked\b"), (Refusing, "Refusing")])
def test_a_wrapper_that_cannot_be_copied_is_refused_by_name(around: Any, wrapper: Any, named: str) -> None:
    env = begun(around(wrapper(game())))
    with pytest.raises(NotForkable, match=named):
        arpo_envs.clone(env)
