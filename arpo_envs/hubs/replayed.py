"""An environment that cannot be copied, as one that forks at level REPLAY: its state is its seed and its actions.

A fork is such a list until it is stepped. Only then is an environment made and brought into its state, so that a fork that is
never stepped costs nothing. Each step that is run again must give what it gave the first time.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from ..forking import ForkLevel, reseeded
from .adopted import Adopted, Env, MakeEnv
from .moves import Count, Move, repeat


def replayed(make_env: MakeEnv) -> "Replayed":
    """Returns an environment that forks by running the actions of its episode again in a new one.

    Args:
        make_env: makes an environment of Gymnasium, wrappers included. It is called for each fork, so what is slow to load
            should be loaded once, outside of it.

    Raises:
        ConfigError: it makes something else.

    >>> import gymnasium as gym, arpo_envs
    >>> env = replayed(lambda: gym.make("CartPole-v1"))
    >>> start, info = env.reset(seed=1)
    >>> first, *_ = env.step(0)
    >>> twin = arpo_envs.clone(env)
    >>> bool((env.step(1)[0] == twin.step(1)[0]).all())
    True
    """
    return Replayed(make_env)


class Replayed(Adopted):
    """An environment that forks by running its actions again; see `replayed`."""

    fork_level: ClassVar[ForkLevel] = ForkLevel.REPLAY
    configuration = Adopted.configuration | {"_count"}

    def __init__(self, make_env: MakeEnv) -> None:
        super().__init__(make_env)
        self._moves: list[Move] = []
        self._count = Count()
        self._closed = False

    @property
    def executed_calls(self) -> int:
        """Tool calls that this environment itself ran for the first time: steps whose `info` named a tool."""
        return self._count.executed

    @property
    def replayed_calls(self) -> int:
        """Tool calls that it ran again to come into its state."""
        return self._count.replayed

    @property
    def live(self) -> Env:
        """The other environment, in the state of the episode, into which it is brought now if it is not yet.

        Raises:
            ResetNeeded: this one was closed; nobody would close what is made now.
            NotRepeatable: a step did not give what it gave the first time.
        """
        if self._env is None and not self._closed:
            env = self.make_env()
            try:
                repeat(self._moves, env, self.name, self._count)
            except BaseException:
                env.close()
                raise
            self._env = env
        return super().live

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; without a seed, one is drawn, because the reset may have to be repeated."""
        super().reset(seed=seed)
        first = int(self.np_random.integers(2**31)) if seed is None else seed
        self._moves, self._running, self._closed = [], False, False
        (observation,), info = self._made(Move("reset", first, copy.deepcopy(options)))
        self._running = True
        return self._returns(observation, info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes one action; a fork that is stepped for the first time comes into its state first.

        Raises:
            ResetNeeded: the episode has ended, or never began.
            NotRepeatable: a step that was run again did not give what it gave the first time.
        """
        self._require_running()
        (observation, reward, terminated, truncated), info = self._made(Move("step", given=copy.deepcopy(action)))
        self._running = not (terminated or truncated)
        observation, info = self._returns(observation, info)
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Ends the episode and closes the other environment, which is not made again before a reset."""
        self._closed = True
        super().close()

    def reseed(self, seed: int) -> None:
        """Makes the randomness from here on a function of `seed`, as far as `arpo_envs.reseed` reaches it."""
        self.np_random = reseeded(self.np_random, [seed])
        move = Move("reseed", int(np.random.SeedSequence([seed]).generate_state(1)[0]))
        if self._env is not None:
            move.made(self._env)
        self._moves.append(move)

    def copied_state(self, memo: dict[int, Any]) -> dict[str, Any]:
        """Returns a copy of all attributes, without the other environment; moves never change, so they are shared."""
        state = {name: value for name, value in vars(self).items() if name in self.configuration}
        state |= {"_env": None, "_count": Count(), "_moves": list(self._moves)}
        return {name: state[name] if name in state else copy.deepcopy(value, memo) for name, value in vars(self).items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Replayed":
        """Makes a user's own `copy.deepcopy` correct, too."""
        twin = memo[id(self)] = object.__new__(type(self))
        vars(twin).update(self.copied_state(memo))
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Returns what is pickled: all but the other environment."""
        return {**vars(self), "_env": None}

    def _made(self, move: Move) -> tuple[tuple[Any, ...], dict[str, Any]]:
        with self._dropped_if_it_fails():
            seen, info = move.made(self.live)
        called = move.kind == "step" and bool(info.get("tool"))
        self._moves.append(Move(move.kind, move.seed, move.given, seen, called))
        self._count.executed += called
        return seen, info

    @contextmanager
    def _dropped_if_it_fails(self) -> Iterator[None]:
        """Closes the other environment if it fails: nobody knows in which state that left it, and it can be made again."""
        try:
            yield
        except BaseException:
            self.release()
            raise
