"""What happened in an episode, one move at a time, so that it can be made to happen again."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import NotRepeatable
from ..forking import reseed
from ..testing.runs import difference
from .adopted import Env

_NAMES = ("observation", "reward", "terminated", "truncated")


@dataclass(frozen=True, eq=False)
class Move:
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

    def made_again(self, env: Env) -> tuple[str, str] | None:
        """Makes the move once more; returns what is different now and what it was the first time, None if all is the same."""
        seen, _ = self.made(env)
        for name, now, before in zip(_NAMES, seen, self.seen, strict=False):
            if (found := difference(now, before, name)) is not None:
                return found
        return None


@dataclass
class Count:
    """Tool calls that an environment ran for the first time, and those that it ran again."""

    executed: int = 0
    replayed: int = 0


def repeat(moves: Sequence[Move], env: Env, name: str, count: Count) -> None:
    """Makes the moves of an episode once more.

    Args:
        moves: what happened; the first is a reset.
        env: the environment in which it is to happen again.
        name: what it is called in an error.
        count: where the tool calls are added.

    Raises:
        NotRepeatable: a move did not give what it gave the first time.
    """
    for number, move in enumerate(moves):
        count.replayed += move.called
        if (found := move.made_again(env)) is not None:
            steps = sum(earlier.kind == "step" for earlier in moves[: number + 1])
            what = "reset()" if move.kind == "reset" else f"step {steps} ({str(move.given)[:60]!r})"
            now, before = found
            raise NotRepeatable(
                f"{name} does not repeat: when {what} was run again with seed {moves[0].seed}, {now}; the first time it was "
                f"{before}. It can be forked only if all its randomness comes from the seed of reset(), if it reads no clock, "
                "and if it shares nothing with other instances."
            )
