"""Questions about the built-in world's site: a start page is given, and every further page is reached by a link."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import ConfigError
from ...tools.browser import PageError, WorldSite, read
from .. import Task
from ..world import Habits, QuestionSource, World
from .graph import fewest_clicks


class LinkedQuestions:
    """The questions of `QuestionSource`, to be answered by following links from the page of the entity they start with.

    Each hop is one page, so a question of two hops needs one click. What the question asks for is stated on the last page only:
    pages show exactly the facts of the documents, for which `QuestionSource` makes sure that no earlier one shows the answer.

    Args:
        hops: how many pages must be read, 2 to 4.
        split: "train", "validation" or "test"; disjoint in every page on any question's path.
        world: the world the questions are about.
        relations: relations that may be asked or followed; None for all.
        habits: how `demonstrate` behaves.

    Raises:
        ConfigError: an argument is unknown, or allows no questions.

    >>> from arpo_envs.tasks.world import load_world
    >>> task = LinkedQuestions(hops=2, split="test", world=load_world(10)).get("city-2886242/country/capital")
    >>> print(task.question)
    What is the capital of the country of Köln?
    Start page: https://world.example/city-2886242
    >>> task.answers, task.meta["optimal_clicks"]
    (('Berlin',), 1)
    """

    secrets = QuestionSource.secrets

    def __init__(
        self,
        *,
        hops: int = 2,
        split: str = "train",
        world: World | None = None,
        relations: Sequence[str] | None = None,
        habits: Habits | None = None,
    ) -> None:
        if not 2 <= hops <= 4:
            raise ConfigError(f"hops must lie in 2..4, got {hops}: with fewer pages there is no link to follow.")
        self._questions = QuestionSource(hops=hops, split=split, world=world, relations=relations, habits=habits)
        self.hops, self.split = hops, split
        self.site = WorldSite(self._questions.world)
        self.name = f"linked {self._questions.name}"

    def __len__(self) -> int:
        """Returns the number of distinct questions."""
        return len(self._questions)

    def __deepcopy__(self, memo: dict[int, Any]) -> "LinkedQuestions":
        """Returns itself: nothing in it ever changes."""
        return self

    def draw(self, rng: np.random.Generator) -> Task:
        """Returns a question: first the answer, then the chain, then the start, each uniformly."""
        return self._linked(self._questions.draw(rng))

    def get(self, task_id: str) -> Task:
        """Returns the question with that id, such as "city-3031582/country/capital".

        Raises:
            ConfigError: no question of this source has that id.
        """
        return self._linked(self._questions.get(task_id))

    def questions(self) -> Iterator[Task]:
        """Yields every question once, sorted by answer."""
        return map(self._linked, self._questions.questions())

    def answers(self) -> Sequence[str]:
        """Returns the distinct answers, each of which is drawn equally often."""
        return self._questions.answers()

    def majority_baseline(self) -> float:
        """Returns the exact success of always giving the single best answer, accepted variants included."""
        return self._questions.majority_baseline()

    def lexicon(self) -> Sequence[str]:
        """Returns every name and short value on the site's pages, of all splits; populations and areas are left out."""
        return self._questions.lexicon()

    def demonstrate(self, task: Task, rng: np.random.Generator, *, perfect: bool = False) -> Sequence[tuple[str, str]]:
        """Returns an imperfect demonstrator's moves for a question of this source; see `Habits`.

        Args:
            task: a question of this source.
            rng: the only source of randomness.
            perfect: without bad habits: the links that the question names, though a shorter way may lead to the same page.

        Returns:
            Moves ("browser.open", its arguments as JSON), the last one ("answer", text).
        """
        names: tuple[str, ...] = task.meta["queries"]
        moves = self._questions.demonstrate(task, rng, perfect=perfect)
        return [
            (move, text) if move == "answer" else ("browser.open", json.dumps(self._opening(task, names.index(text))))
            for move, text in moves
        ]

    def links(self, url: str) -> Sequence[str]:
        """Returns where the links of a page lead, in the order of their ids."""
        page = read(self.site, url)
        return () if isinstance(page, PageError) else page.links

    def _opening(self, task: Task, position: int) -> dict[str, int]:
        """Returns the arguments that open a page of the path from the one before it."""
        if position == 0:
            return {}
        before, wanted = (self._url(task, place) for place in (position - 1, position))
        return {"id": list(self.links(before)).index(wanted)}

    def _url(self, task: Task, position: int) -> str:
        return self.site.url(self.site.world.number(task.meta["entities"][position]))

    def _linked(self, task: Task) -> Task:
        start, target = self._url(task, 0), self._url(task, -1)
        path = self.hops - 1  # the links that the question names; only a shorter way has to be looked for
        shorter = fewest_clicks(self.links, start, {target}, at_most=path - 1)
        meta = {**task.meta, "start": start, "optimal_clicks": path if shorter is None else shorter}
        return replace(task, question=f"{task.question}\nStart page: {start}", meta=meta)
