"""Tasks by split and number, for hubs that ask for them so: number i is the task that `reset(seed=i)` draws."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..errors import ConfigError, unknown_name
from .episode import Episode, begin, close_each, maker

Splits = Mapping[str, Mapping[str, Any]]

SPLITS: Splits = {name: {"split": name} for name in ("train", "validation", "test")}
"""Of the environments of this package: the arguments of `gym.make` by the name of a split."""

QUESTIONS = ("list_splits", "num_tasks", "list_tasks", "get_task", "get_task_range")
"""What a hub may ask `NumberedTasks`; OpenEnv's task providers are asked the same."""


@dataclass(frozen=True)
class NumberedTasks:
    """The tasks of one id.

    Args:
        env_id: of the environment.
        arguments: of `gym.make`.
        splits: further arguments by the name of a split.
        number: of tasks in each split.
        shown: tasks that are listed at once.

    >>> tasks = NumberedTasks("ARPO/Search-v0", {"cities_per_country": 2}, number=5)
    >>> tasks.get_task_range("test", 3)[1] == tasks.get_task("test", 4)
    True
    """

    env_id: str
    arguments: Mapping[str, Any]
    splits: Splits = field(default_factory=lambda: SPLITS)
    number: int = 1000
    shown: int = 100

    def make(self, split: str | None = None) -> Episode:
        """Returns an environment for the tasks of a split; None for the default of the environment.

        Raises:
            IndexError: no split has that name.
        """
        more = {} if split is None else self.splits[self.require(split)]
        return maker(self.env_id, {**self.arguments, **more})()

    def require_ready(self) -> None:
        """Finds out, before they are served, whether the tasks can be begun.

        Raises:
            ConfigError: an environment cannot be made, or its tools cannot be called, such as for want of a key.
        """
        for split in [None] if self.splits is SPLITS else self.splits:  # an environment from elsewhere may lack the usual ones
            close_each([self.make(split)])

    def begin(
        self, split: str | None = None, index: int | None = None, *, seed: int | None = None, task: str | None = None
    ) -> Episode:
        """Begins an episode: of a task by its split and index or by its id, or of one drawn with a seed.

        Args:
            split: None for the first one with an index, and otherwise for the default of the environment.
            index: of the task; it is also the seed.
            seed: of the episode.
            task: its id.

        Raises:
            ConfigError: an index is given with a seed or an id, or no task has that id.
            IndexError: there is no such split, or no task with that index in it.
        """
        if index is not None:
            if given := [name for name, value in (("seed", seed), ("task", task)) if value is not None]:
                raise ConfigError(f"An index chooses the task and the seed: leave {' and '.join(given)} out, or index.")
            seed, split = index, self.require(self.list_splits()[0] if split is None else split, index)
        return begin(partial(self.make, split), seed=seed, task=task)

    def require(self, split: str, index: int = 0) -> str:
        """Returns the name of a split.

        Raises:
            IndexError: no split has that name, or it has no task with that index.
        """
        if not isinstance(split, str) or type(index) is not int:
            raise IndexError(f"A task has the name of a split and a whole number, got {split!r:.60} and {index!r:.60}.")
        if split not in self.splits:
            raise IndexError(str(unknown_name("split", split[:60], self.splits)))
        if not 0 <= index < self.number:
            raise IndexError(f"The split {split!r} has tasks 0 to {self.number - 1}; there is no {index}.")
        return split

    def list_splits(self) -> list[str]:
        """Returns the names of the splits."""
        return list(self.splits)

    def num_tasks(self, split: str) -> int:
        """Returns how many tasks a split has."""
        self.require(split)
        return self.number

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        """Returns the first tasks of a split, as `get_task` does."""
        return self.get_task_range(split, 0, self.shown)

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        """Returns a task: its id, index and question."""
        return self.get_task_range(self.require(split, index), index, index + 1)[0]

    def get_task_range(self, split: str, start: int | None = None, stop: int | None = None) -> list[dict[str, Any]]:
        """Returns the tasks of a slice, as `get_task` does.

        Raises:
            IndexError: there is no such split.
            ConfigError: these are more than are listed at once.
        """
        chosen = range(self.number)[start:stop]
        if len(chosen) > self.shown:
            raise ConfigError(
                f"At most {self.shown} tasks are listed at once, and this range has {len(chosen)}: ask for parts of it."
            )
        episode = self.make(split)
        try:
            drawn = [(index, episode.reset(seed=index)) for index in chosen]
        finally:
            episode.close()
        return [{"id": step.info.get("task"), "index": index, "question": step.observation} for index, step in drawn]
