"""A user's own questions, from JSON Lines files."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from ..errors import ConfigError, unknown_name
from . import Task
from .lines import digest_of, rows, text_of


class ListedTasks:
    """The tasks of a file, in its order.

    Args:
        path: the file's path.
        kind: what the source's name begins with.
        tasks: each with its line number.
        digest: of their content; that of the file if left out.
        benchmark: what else is known of their benchmark, see `provenance`.

    Raises:
        ConfigError: two tasks have the same id.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        tasks: Iterable[tuple[int, Task]],
        *,
        digest: str | None = None,
        benchmark: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        self.path, self._benchmark = path, dict(benchmark)  # a mapping proxy does not pickle
        self._tasks: dict[str, Task] = {}
        for number, task in tasks:
            if task.id in self._tasks:
                raise ConfigError(f"{path}, line {number}: the id {task.id!r} occurs twice. Give each task its own id.")
            self._tasks[task.id] = task
        self._order = tuple(self._tasks.values())
        self.name = f"{kind}({path.name}, {digest or digest_of(path)})"  # an edited file is a different source

    def __len__(self) -> int:
        """Returns the number of tasks."""
        return len(self._order)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Returns itself: nothing in it ever changes."""
        return self

    def draw(self, rng: np.random.Generator) -> Task:
        """Returns a task, uniformly."""
        return self._order[int(rng.random() * len(self._order))]

    def get(self, task_id: str) -> Task:
        """Returns the task with that id.

        Raises:
            ConfigError: the file has no such task.
        """
        if task_id not in self._tasks:
            raise unknown_name(f"task in {self.path.name}", task_id, list(self._tasks)[:20])
        return self._tasks[task_id]

    def provenance(self, task: Task) -> Mapping[str, object]:
        """Returns where a task is from: file, source and, if known, benchmark and whether it must not be passed on.

        A row says the latter of itself by `"gated": true`, or by a "canary", with which authors mark what they want kept back.
        """
        found: dict[str, object] = {"tasks": str(self.path), "source": self.name}
        if task.meta.get("gated") is True or task.meta.get("canary"):
            found["gated"] = True
        return {**found, **self._benchmark}

    def questions(self) -> Iterator[Task]:
        """Yields every task in the file's order."""
        yield from self._order


class FileTasks(ListedTasks):
    """Questions from a JSON Lines file, drawn uniformly.

    Each line is an object: {"question": "…", "answers": ["…", …]}, or "answer": "…" for a single one; "id" is
    optional (the line's number otherwise), and all other keys become the task's `meta`. Of these, "answer_type" says how
    answers are judged; see `arpo_envs.rewards.check`.

    Args:
        path: the file, UTF-8.

    Raises:
        ConfigError: the file is missing or empty, or a line is not as described; the message names the line.
    """

    def __init__(self, path: str | Path) -> None:
        found = rows(Path(path), '{"question": "…", "answers": ["…"]}')
        super().__init__(Path(path), "tasks", ((number, _task(Path(path), number, row)) for number, row in found))


def _task(path: Path, number: int, row: Mapping[str, Any]) -> Task:
    question = text_of(path, number, row, "question")
    if ("answer" in row) == ("answers" in row):
        raise ConfigError(f"{path}, line {number}: give either 'answers' (a list of strings) or 'answer' (one string).")
    answers = [text_of(path, number, row, "answer")] if "answer" in row else row["answers"]
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) and a.strip() for a in answers):
        raise ConfigError(f"{path}, line {number}: 'answers' must be a non-empty list of strings, got {answers!r:.60}.")
    if "scorer" in row:  # it names a function to be imported, and the file may come from anyone
        raise ConfigError(f"{path}, line {number}: 'scorer' is not taken from a file. Remove it, or give an 'answer_type'.")
    name = row.get("id", number)
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise ConfigError(f"{path}, line {number}: 'id' must be a string or a whole number, got {name!r:.60}.")
    meta = {key: value for key, value in row.items() if key not in {"id", "question", "answer", "answers"}}
    return Task(str(name), question, tuple(answers), meta)
