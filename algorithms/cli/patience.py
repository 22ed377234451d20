"""Steps in which every path failed: a run waits for what is down to come back; if it does not, the run saves and ends."""

import asyncio
from pathlib import Path

import gymnasium as gym
from rich.markup import escape

from arpo_envs import ConfigError, NotForkable

from ..rollout import RolloutError
from ..trainer import StepResult
from .progress import Progress

_PAUSES = (2.0, 4.0, 8.0, 16.0)
"""Seconds to wait after each lost step in a row; after one more, patience is over."""


class Patience:
    """Counts the steps in a row that taught nothing.

    Args:
        progress: where they are reported.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lost: list[Exception] = []

    def count(self, step: int, result: StepResult, *, first: bool) -> None:
        """Takes note of the result of a step.

        Args:
            step: number, from 0.
            result: of the step.
            first: whether it is the first step of the run; then a user's mistake is raised.

        Raises:
            Exception: a user's mistake in the first step, when somebody is there to fix it.
        """
        error = result.error
        if error is not None and first and _is_users(error):
            raise error
        if error is None or not result.metrics["lost_steps"]:
            self._lost = []
            return
        self._lost.append(error)
        self._progress.note(f"[yellow]step {step + 1} taught nothing[/]: {escape(str(error))}")

    @property
    def is_over(self) -> bool:
        """Whether it makes no sense to go on."""
        return len(self._lost) > len(_PAUSES)

    def error(self, run: Path) -> RolloutError:
        """Returns the error that ends a run, which is saved in this folder."""
        last = self._lost[-1]
        error = RolloutError(
            f"Every path of the last {len(self._lost)} steps failed. {last} Everything is saved. Fix the cause, then continue "
            f"with: arpo train --resume {run}"
        )
        error.__cause__ = last
        return error

    async def pause(self) -> None:
        """Gives what is down some time to come back; waiting does not help against a user's mistake."""
        if self._lost and not _is_users(self._lost[-1]):
            await asyncio.sleep(_PAUSES[len(self._lost) - 1])


def _is_users(error: Exception) -> bool:
    return isinstance(error, ConfigError | NotForkable | gym.error.Error)
