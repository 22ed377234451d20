"""A user's own questions and documents, from JSON Lines files."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..errors import ConfigError, unknown_name
from . import Task
from .world import Document


class ListedTasks:
    """The tasks of a file, in its order.

    Args:
        path: the file's path.
        kind: what the source's name begins with.
        tasks: each with its line number.

    Raises:
        ConfigError: two tasks have the same id.
    """

    def __init__(self, path: Path, kind: str, tasks: Iterable[tuple[int, Task]]) -> None:
        self.path = path
        self._tasks: dict[str, Task] = {}
        for number, task in tasks:
            if task.id in self._tasks:
                raise ConfigError(f"{path}, line {number}: the id {task.id!r} occurs twice. Give each task its own id.")
            self._tasks[task.id] = task
        self._order = tuple(self._tasks.values())
        self.name = f"{kind}({path.name}, {_digest(path)})"  # an edited file is a different source

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
        rows = _rows(Path(path), '{"question": "…", "answers": ["…"]}')
        super().__init__(Path(path), "tasks", ((number, _task(Path(path), number, row)) for number, row in rows))


@dataclass(frozen=True)
class FileCorpus:
    """Documents from a JSON Lines file with lines {"title": "…", "text": "…"}.

    A document that does not begin with its title gets it in front, as "title: text".

    Args:
        path: the file, UTF-8.
        digest: of its content, so that an edited file is a different corpus; computed if left empty.

    Raises:
        ConfigError: the file is missing or empty, or a line is not as described; the message names the line.
    """

    path: Path
    digest: str = ""

    def __post_init__(self) -> None:
        """Reads the file once, so that its mistakes show early."""
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "digest", self.digest or _digest(self.path))
        self.documents()

    @property
    def name(self) -> str:
        """The file's name and a digest of its content."""
        return f"documents({self.path.name}, {self.digest})"

    def documents(self) -> Sequence[Document]:
        """Returns the documents in the file's order."""
        return _documents(self.path, self.digest)


@lru_cache(maxsize=4)
def _documents(path: Path, digest: str) -> tuple[Document, ...]:
    found = []
    for number, row in _rows(path, '{"title": "…", "text": "…"}'):
        title, text = (_text(path, number, row, key) for key in ("title", "text"))
        found.append(Document(title, text if text.startswith(title) else f"{title}: {text}"))
    return tuple(found)


def _digest(path: Path) -> str:
    try:
        return blake2b(path.read_bytes(), digest_size=6).hexdigest()
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror or error}. Check the path.") from error


def _rows(path: Path, expected: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields the objects of a file with their line numbers; blank lines are skipped."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror or error}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    empty = True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        empty = False
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}, line {number}: not JSON ({error}). Expected {expected}.") from error
        if not isinstance(row, dict):
            raise ConfigError(f"{path}, line {number}: a JSON {type(row).__name__}. Expected an object: {expected}.")
        yield number, row
    if empty:
        raise ConfigError(f"{path} has no lines. Expected one {expected} on each line.")


def _text(path: Path, number: int, row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        got = "nothing" if key not in row else repr(value)[:60]
        raise ConfigError(f"{path}, line {number}: {key!r} must be a non-empty string, got {got}.")
    return value


def _task(path: Path, number: int, row: Mapping[str, Any]) -> Task:
    question = _text(path, number, row, "question")
    if ("answer" in row) == ("answers" in row):
        raise ConfigError(f"{path}, line {number}: give either 'answers' (a list of strings) or 'answer' (one string).")
    answers = [_text(path, number, row, "answer")] if "answer" in row else row["answers"]
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) and a.strip() for a in answers):
        raise ConfigError(f"{path}, line {number}: 'answers' must be a non-empty list of strings, got {answers!r:.60}.")
    if "scorer" in row:  # it names a function to be imported, and the file may come from anyone
        raise ConfigError(f"{path}, line {number}: 'scorer' is not taken from a file. Remove it, or give an 'answer_type'.")
    name = row.get("id", number)
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise ConfigError(f"{path}, line {number}: 'id' must be a string or a whole number, got {name!r:.60}.")
    meta = {key: value for key, value in row.items() if key not in {"id", "question", "answer", "answers"}}
    return Task(str(name), question, tuple(answers), meta)
