"""Tasks of the `reasoning-gym` library by name, judged by the library's own scorers.

The library is optional and imported with this module, which nothing imports until such a task is requested: the
process that runs a scorer must have everything loaded before it is confined.
"""

import importlib
from collections.abc import Mapping
from hashlib import blake2b
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import ConfigError, unknown_name
from . import Task

PREFIX = "reasoning-gym:"
"""The prefix of such tasks' names where a string stands for a source."""

_SHARES = {"train": range(60), "validation": range(60, 75), "test": range(75, 100)}
_TRIES = 1000

_INSTALL = (
    "Install it with `pip install 'arpo-envs[reasoning]'` and then "
    "`pip install --no-deps reasoning-gym==0.1.25 pyfiglet==1.0.2`. "
    "The second step is needed because mendeleev asks for an older pyfiglet, with which it shares nothing else."
)


def _import() -> tuple[ModuleType | None, str]:
    try:
        return importlib.import_module("reasoning_gym"), ""
    except ImportError as error:
        return None, str(error)


_LIBRARY, _MISSING = _import()


class ReasoningGymTasks:
    """Tasks of one dataset of `reasoning-gym`.

    Each task belongs to the split given by a hash of its question (60% to train, 15% to validation, 25% to test), so
    no question is in two of them.

    Args:
        name: the dataset's name, such as "gcd".
        split: "train", "validation" or "test".
        size: number of tasks in all splits together.
        seed: the dataset's seed.
        config: options of the dataset, such as {"max_value": 99}.

    Raises:
        ConfigError: the library is missing, the dataset is unknown, or it does not take these options.
    """

    secrets = ("reasoning_gym", "arpo_envs")

    def __init__(
        self,
        name: str,
        *,
        split: str = "train",
        size: int = 10_000,
        seed: int = 0,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        if split not in _SHARES:
            raise unknown_name("split", split, _SHARES)
        if size < 1:
            raise ConfigError(f"size must be at least 1, got {size}.")
        self.dataset, self.split, self.size, self.seed = name, split, size, seed
        self.config = dict(config or {})
        if taken := {"size", "seed"} & set(self.config):
            raise ConfigError(f"config holds {', '.join(sorted(taken))}: give them as separate arguments.")
        self._entries = _dataset(name, size=size, seed=seed, **self.config)
        options = "".join(f", {key}={value!r}" for key, value in sorted(self.config.items()))
        self.name = f"{PREFIX}{name}({split}, {size} tasks, seed {seed}{options})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by its arguments."""
        return _rebuilt, (self.dataset, self.split, self.size, self.seed, self.config)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ReasoningGymTasks":
        """Returns itself: nothing in it ever changes."""
        return self

    def draw(self, rng: np.random.Generator) -> Task:
        """Returns a task of the split, uniformly.

        Raises:
            ConfigError: the split seems to have none.
        """
        for _ in range(_TRIES):
            task = self._task(int(rng.random() * self.size))
            if task is not None:
                return task
        raise ConfigError(f"{self.name}: none of {_TRIES} tasks belongs to this split. Allow more with size= or config=.")

    def get(self, task_id: str) -> Task:
        """Returns the task with that id, such as "gcd-12".

        Raises:
            ConfigError: no task of this source has that id.
        """
        name, _, index = task_id.rpartition("-")
        if name == self.dataset and index.isascii() and index.isdigit() and str(int(index)) == index and int(index) < self.size:
            task = self._task(int(index))
            if task is not None:
                return task
            raise ConfigError(f"The task {task_id!r} does not belong to the split {self.split!r}.")
        raise ConfigError(
            f"{self.name} has no task {task_id!r}. Its ids are {self.dataset}-0 to {self.dataset}-{self.size - 1}."
        )

    def _task(self, index: int) -> Task | None:
        entry = self._entries[index]
        question = str(entry["question"])
        bucket = int.from_bytes(blake2b(question.encode("utf-8", "replace"), digest_size=8).digest(), "big") % 100
        if bucket not in _SHARES[self.split]:
            return None
        answers = () if entry["answer"] is None else (str(entry["answer"]),)
        meta = {
            "dataset": self.dataset,
            "config": {**self.config, "size": self.size, "seed": self.seed},
            "entry": entry,
            "scorer": f"{__name__}:score",
        }
        return Task(f"{self.dataset}-{index}", question, answers, meta)


def score(task: Task, answer: str) -> float:
    """Returns the library's own score of an answer, in [0, 1].

    Some of its scorers give a small share, such as 0.01, for a wrong answer of the right form.

    Args:
        task: one of `ReasoningGymTasks`.
        answer: what the model answered.
    """
    dataset = _dataset(task.meta["dataset"], **task.meta["config"])
    return min(1.0, max(0.0, float(dataset.score_answer(answer, task.meta["entry"]))))


def _dataset(name: str, **options: Any) -> Any:
    if _LIBRARY is None:
        raise ConfigError(f"reasoning-gym cannot be imported ({_MISSING}). {_INSTALL}")
    known = _LIBRARY.factory.DATASETS
    if name not in known:
        raise unknown_name("dataset of reasoning-gym", name, known)
    try:
        return _LIBRARY.create_dataset(name, **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"The dataset {name!r} of reasoning-gym does not take these options: {error}") from error


def _rebuilt(name: str, split: str, size: int, seed: int, config: Mapping[str, Any]) -> ReasoningGymTasks:
    return ReasoningGymTasks(name, split=split, size=size, seed=seed, config=config)
