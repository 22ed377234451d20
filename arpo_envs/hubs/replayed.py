"""An environment that cannot be copied, as one that forks at level REPLAY: its state is its seed and its actions.

A fork is such a list until it is stepped. Only then is an environment made and brought into its state, so that a fork that is
never stepped costs nothing. Each step that is run again must give what it gave the first time.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import NotRepeatable
from ..forking import ForkLevel, reseed, reseeded
from ..testing.runs import difference
from .adopted import Adopted, Env, MakeEnv


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


@dataclass(frozen=True, eq=False)
class _Move:
    """A reset, a step or a new seed, and what came of it.

    Args:
        kind: which of the three.
        seed: of the reset, or the new one.
        given: the options of the reset, or the action.
        seen: observation, reward, terminated, truncated; of a reset the observation alone.
        called: whether it was a tool call: a step whose info named a tool, as trees count them.
    """

    kind: str
    seed: int = 0
    given: Any = None
    seen: tuple[Any, ...] = ()
    called: bool = False

    def made(self, env: Env) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Makes the move, and returns copies of what came of it, and info."""
        if self.kind == "reseed":
            reseed(env, self.seed)
            return (), {}
        if self.kind == "reset":
            observation, info = env.reset(seed=self.seed, options=copy.deepcopy(self.given))
            return (copy.deepcopy(observation),), info
        observation, reward, terminated, truncated, info = env.step(copy.deepcopy(self.given))
        return (copy.deepcopy(observation), float(reward), bool(terminated), bool(truncated)), info


@dataclass
class _Count:
    """Tool calls that an environment ran for the first time, and those that it ran again."""

    executed: int = 0
    replayed: int = 0


class Replayed(Adopted):
    """An environment that forks by running its actions again; see `replayed`."""

    fork_level: ClassVar[ForkLevel] = ForkLevel.REPLAY
    configuration = Adopted.configuration | {"_count"}

    def __init__(self, make_env: MakeEnv) -> None:
        super().__init__(make_env)
        self._moves: list[_Move] = []
        self._count = _Count()
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
                for number, move in enumerate(self._moves):
                    self._repeat(env, move, number)
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
        (observation,), info = self._made(_Move("reset", first, copy.deepcopy(options)))
        self._running = True
        return self._returns(observation, info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes one action; a fork that is stepped for the first time comes into its state first.

        Raises:
            ResetNeeded: the episode has ended, or never began.
            NotRepeatable: a step that was run again did not give what it gave the first time.
        """
        self._require_running()
        (observation, reward, terminated, truncated), info = self._made(_Move("step", given=copy.deepcopy(action)))
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
        move = _Move("reseed", int(np.random.SeedSequence([seed]).generate_state(1)[0]))
        if self._env is not None:
            move.made(self._env)
        self._moves.append(move)

    def copied_state(self, memo: dict[int, Any]) -> dict[str, Any]:
        """Returns a copy of all attributes, without the other environment; moves never change, so they are shared."""
        state = {name: value for name, value in vars(self).items() if name in self.configuration}
        state |= {"_env": None, "_count": _Count(), "_moves": list(self._moves)}
        return {name: state[name] if name in state else copy.deepcopy(value, memo) for name, value in vars(self).items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Replayed":
        """Makes a user's own `copy.deepcopy` correct, too."""
        twin = memo[id(self)] = object.__new__(type(self))
        vars(twin).update(self.copied_state(memo))
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Returns what is pickled: all but the other environment."""
        return {**vars(self), "_env": None}

    def _made(self, move: _Move) -> tuple[tuple[Any, ...], dict[str, Any]]:
        with self._dropped_if_it_fails():
            seen, info = move.made(self.live)
        called = move.kind == "step" and bool(info.get("tool"))
        self._moves.append(_Move(move.kind, move.seed, move.given, seen, called))
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

    def _repeat(self, env: Env, move: _Move, number: int) -> None:
        self._count.replayed += move.called
        seen, _ = move.made(env)
        names = ("observation", "reward", "terminated", "truncated")
        for name, now, before in zip(names, seen, move.seen, strict=False):
            if (found := difference(now, before, name)) is not None:
                raise NotRepeatable(self._refusal(move, number, *found))

    def _refusal(self, move: _Move, number: int, now: str, before: str) -> str:
        steps = sum(earlier.kind == "step" for earlier in self._moves[: number + 1])
        what = "reset()" if move.kind == "reset" else f"step {steps} ({str(move.given)[:60]!r})"
        return (
            f"{self.name} does not repeat: when {what} was run again with seed {self._moves[0].seed}, {now}; the first time it "
            f"was {before}. It can be forked only if all its randomness comes from the seed of reset(), if it reads no clock, "
            "and if it shares nothing with other instances."
        )
