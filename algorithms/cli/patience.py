"""Steps in which every path failed: a run waits for what is down to come back, and ends, saved, if it does not."""

import asyncio
from pathlib import Path

import gymnasium as gym
from rich.markup import escape

from arpo_envs import ConfigError, NotForkable

from ..rollout import RolloutError
from ..trainer import StepResult
from .progress import Progress

_PAUSES = (2.0, 4.0, 8.0, 16.0)
"""Seconds to wait after the first lost steps in a row; with one more, patience is over."""


class Patience:
    """Counts the steps in a row that taught nothing.

    Args:
        progress: where they are told.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lost: list[Exception] = []

    def count(self, step: int, result: StepResult, *, first: bool) -> None:
        """Takes in what came of a step.

        Args:
            step: number, from 0.
            result: of the step.
            first: whether nothing was learned before it; then a user's mistake is raised.

        Raises:
            Exception: a user error: in the first step somebody is there to fix it.
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
        """Whether to go on makes no sense."""
        return len(self._lost) > len(_PAUSES)

    def error(self, run: Path) -> RolloutError:
        """Returns what to end a run with that is saved in a folder."""
        last = self._lost[-1]
        error = RolloutError(
            f"Every path of the last {len(self._lost)} steps failed. {last} Everything is saved. Fix that, then continue with: "
            f"arpo train --resume {run}"
        )
        error.__cause__ = last
        return error

    async def pause(self) -> None:
        """Gives what is down some time to come back; a user's mistake does not go away by waiting."""
        if self._lost and not _is_users(self._lost[-1]):
            await asyncio.sleep(_PAUSES[len(self._lost) - 1])


def _is_users(error: Exception) -> bool:
    return isinstance(error, ConfigError | NotForkable | gym.error.Error)
