"""One row of a vector environment: a stack, what it last returned, and when it is reset by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode

from ..errors import CloneError, ForkError
from ..forking import clone_many


@dataclass(frozen=True)
class Step:
    """What one row returned: five values of a step, or the two of a reset."""

    observation: Any
    info: dict[str, Any]
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False


class Row:
    """A stack with the rules of an autoreset mode; one thread at a time may use it.

    Args:
        env: the stack, which the row closes.
        mode: when an episode that has ended is followed by the next one.
        last: what the stack last returned; None before the first reset.
        ended: the episode is over, and the next one has not begun.
    """

    def __init__(self, env: "gym.Env[Any, Any]", mode: AutoresetMode, *, last: Step | None = None, ended: bool = False) -> None:
        self.env, self.mode, self.last, self.ended = env, mode, last, ended
        self._closed = False

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Step:
        """Begins an episode."""
        try:
            observation, info = self.env.reset(seed=seed, options=None if options is None else dict(options))
        finally:
            self._close_again()
        self.last, self.ended = Step(observation, info), False
        return self.last

    def step(self, action: Any) -> Step:
        """Takes an action, or begins the next episode, as the mode says."""
        if self.ended and self.mode is not AutoresetMode.DISABLED:
            return self.reset()
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        finally:
            self._close_again()
        step = Step(observation, info, float(reward), bool(terminated), bool(truncated))
        ended = step.terminated or step.truncated
        self.last, self.ended = step, ended
        if ended and self.mode is AutoresetMode.SAME_STEP:
            first = self.reset()
            infos = {"final_obs": observation, "final_info": info, **first.info}
            self.last = step = replace(step, observation=first.observation, info=infos)
        return step

    def forked(self, seeds: Sequence[int | None]) -> "list[Row]":
        """Returns one copy per seed, or none: where one cannot be made, the others are closed.

        Raises:
            ForkError: it cannot be copied.
        """
        children = clone_many(self.env, seeds)
        failed = next((child for child in children if isinstance(child, CloneError)), None)
        made = [child for child in children if not isinstance(child, CloneError)]
        if failed is None:
            return [Row(env, self.mode, last=self.last, ended=self.ended) for env in made]
        close_all([Row(env, self.mode) for env in made])
        raise failed

    def close(self) -> None:
        """Closes the stack; a step that still runs in another thread closes it again when it returns."""
        self._closed = True
        self.env.close()

    def _close_again(self) -> None:
        """Frees what an episode opened after it was closed."""
        if self._closed:
            self.env.close()


def close_all(rows: Sequence[Row]) -> list[Exception | None]:
    """Closes every row, whatever happens to the others, and returns what each raised."""
    raised: list[Exception | None] = []
    for row in rows:
        try:
            row.close()
        except Exception as error:  # noqa: BLE001  # the others are to be closed, too
            raised.append(error)
        else:
            raised.append(None)
    return raised


def as_fork_error(error: ForkError, row: int) -> ForkError:
    """Returns the same kind of error, with the number of the row that was to be forked."""
    return type(error)(f"Row {row} could not be forked, and no row was changed: {error}")
