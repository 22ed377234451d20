"""What the reader works with: one page, which it may scroll and look through, and a question about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from ..core import Outcome, Score
from ..dialects import Dialect
from ..errors import ConfigError
from ..forking import ForkLevel
from ..tasks import Task
from ..tools import ToolResult
from ..tools.browser import BrowserSession, BrowserTool, Document, Hit, PageError, PageSource, asked_through
from ..tools.cache import Answers

GUIDANCE = (
    "Somebody who cannot see this page asks you a question about it. Answer with a short note: what the page says about the "
    "question, in its own words, or that it says nothing about it. You may first look at other parts of this page; other pages "
    "cannot be opened."
)
_LONGEST_QUESTION = 2000
"""Characters of a question that the reader sees."""


@dataclass(frozen=True)
class OnePage:
    """A source that has one page of another one.

    Args:
        source: where the page comes from.
        url: of the page.
    """

    source: PageSource
    url: str
    searches = False

    @property
    def name(self) -> str:
        """What distinguishes it from other sources; a digest, because there may be a credential in a URL that a model wrote."""
        return f"page {blake2b(self.url.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()} of {self.source.name}"

    @property
    def trusted(self) -> bool:
        """Whether its HTML is known to be harmless."""
        return self.source.trusted

    def fetch(self, url: str, *, timeout: float) -> Document | PageError:
        """Returns the page, and no other."""
        return self.source.fetch(url, timeout=timeout) if url == self.url else PageError("only this page can be opened here")

    def search(self, query: str, count: int, *, timeout: float) -> Sequence[Hit] | PageError:
        """Returns that it cannot search."""
        return PageError("only this page can be opened here")


class PageTool:
    """`browser.open` and `browser.find` on the page that a task is about; it is open when the episode begins.

    Args:
        source: where pages come from.
        view_tokens: words that a view of a page shows.
    """

    fork_level = ForkLevel.EXACT

    def __init__(self, source: PageSource, *, view_tokens: int = 400) -> None:
        self.source, self.view_tokens = source, view_tokens
        self.specs = BrowserTool(source, search=False, view_tokens=view_tokens).specs
        self.answers: tuple[Answers, ...] = ()

    @property
    def identity(self) -> str:
        """What distinguishes this tool from another: see `ToolEnv.identity`."""
        return f"{self.source.name}/{self.view_tokens}"

    def __deepcopy__(self, memo: dict[int, Any]) -> "PageTool":
        """Returns itself: nothing in it ever changes."""
        return self

    def open(self, task: Task, rng: np.random.Generator) -> BrowserSession:
        """Starts a session in which the task's page is shown."""
        session = self._opened(task, rng)
        session.state = task.meta["state"]
        return session

    def look(self, url: str, name: str, rng: np.random.Generator, *, timeout: float) -> tuple[BrowserSession, ToolResult]:
        """Opens a page; returns the session that shows it, and the view, or why there is none.

        Args:
            url: of the page.
            name: of the task that it is for.
            rng: with the name, it tells this look from others in a recording; nothing is drawn.
            timeout: seconds that it may take.
        """
        session = self._opened(Task(name, "", (), {"start": url}), rng)
        return session, session.call("browser.open", {}, timeout=timeout)

    def answered(self, answers: Answers) -> "PageTool":
        """Returns the tool with its pages asked through `answers`.

        Raises:
            ConfigError: there is a credential in the source's name.
        """
        return asked_through(self, answers)

    def _opened(self, task: Task, rng: np.random.Generator) -> BrowserSession:
        tool = BrowserTool(OnePage(self.source, task.meta["start"]), search=False, view_tokens=self.view_tokens)
        tool.answers = self.answers
        return tool.open(task, rng)


class Asked:
    """A source of tasks that are made while they are asked: the option "task" of `reset` is the task itself."""

    name = "questions of a solver"

    def draw(self, rng: np.random.Generator) -> Task:
        """Refuses: only a solver asks.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("A reader has nothing to read before a solver asks; reset it with options={'task': a Task}.")

    def get(self, task_id: Any) -> Task:
        """Returns the task that it is given.

        Raises:
            ConfigError: it is not a `Task`.
        """
        if not isinstance(task_id, Task):
            raise ConfigError(f"Expected a Task, got {task_id!r}.")
        return task_id


def question_about(page: BrowserSession, view: str, question: str, name: str, dialect: Dialect) -> Task:
    """Returns the reader's task: the question on a line of its own, and what it sees first; no mark of a dialect in either.

    Args:
        page: the session that shows it.
        view: what it shows.
        question: of the solver.
        name: of the task.
        dialect: of the reader.
    """
    line = " ".join(question.split())[:_LONGEST_QUESTION]
    text = dialect.neutralise(f"Question: {line}\n\n{view}")
    return Task(name, text, (), {"start": page.start, "state": page.state})


def unpaid(task: Task, outcome: Outcome) -> Score:
    """Pays nothing: a note is worth what the solver makes of it."""
    return Score(0.0, 0.0)
