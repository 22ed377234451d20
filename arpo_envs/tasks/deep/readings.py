"""Which numbers the pages of a world state, and the links by which each is reached.

Everything is computed once, as arrays, so that drawing a number costs microseconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..world import LINKS, SPLITS, World, names_of

NUMBERS: Mapping[str, tuple[str, ...]] = {
    "city": ("population",),
    "country": ("calling code", "population", "area"),
    "element": ("atomic number", "discovery year"),
}
"""The facts of each kind of entity that are numbers."""
UNIT = " square kilometres"
_WORDED = {"area": "area, in square kilometres,"}

_LEAST = 10
"""Computing with smaller numbers is trivial."""
_FEWEST = 12
"""Starts that a way must have: ways are drawn equally often, and no page may be asked for all the time."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """A number, and the pages that must be read for it.

    Args:
        path: the entities of the pages, the first to be found by a search, each other one to be reached by a link.
        relations: the links' relations, then that of the number on the last page.
        value: the number.
        phrase: what it is called in a question.
    """

    path: tuple[int, ...]
    relations: tuple[str, ...]
    value: int
    phrase: str


@dataclass(frozen=True)
class Route:
    """One way to a number.

    Args:
        relations: as in `Reading`.
        starts: the entities from which it is fair.
    """

    relations: tuple[str, ...]
    starts: Ints


def number_in(text: str) -> int:
    """Returns the number that a fact is, -1 where it is none.

    >>> number_in("547,030 square kilometres"), number_in("33"), number_in("1-684"), number_in("")
    (547030, 33, -1, -1)
    """
    digits = text.removesuffix(UNIT).replace(",", "")
    return int(digits) if digits.isascii() and digits.isdigit() else -1


@lru_cache(maxsize=4)
def numbers_of(world: World) -> Mapping[tuple[str, str], Ints]:
    """Returns for each (kind, relation) of `NUMBERS` every entity's number, -1 where there is none."""
    return {
        (kind, relation): np.array([number_in(text) for text in world.columns[kind, relation].texts], dtype=np.int64)
        for kind, relations in NUMBERS.items()
        for relation in relations
    }


@lru_cache(maxsize=64)
def routes(world: World, split: str, pages: int, within: range | None = None) -> tuple[Route, ...]:
    """Returns all ways to a number, in a stable order.

    A start is fair when the names of all pages on the way are unambiguous and belong to the split alone, when no page can be
    left out, and when no page before the last one states the number.

    Args:
        world: the world in use.
        split: what the questions are for.
        pages: how many must be read.
        within: numbers that count; None for all.
    """
    found = (
        Route(relations, _starts(world, split, kind, relations, within))
        for kind in NUMBERS
        for relations in _walks(kind, pages)
        if len(set(relations)) == pages
    )
    return tuple(route for route in found if len(route.starts) >= _FEWEST)


def stated(world: World, entity: int) -> Iterator[int]:
    """Yields the numbers that an entity's page states."""
    for relation in NUMBERS[world.kind(entity)]:
        if (number := number_in(world.fact(entity, relation))) >= 0:
            yield number


def linked(world: World, entity: int) -> set[int]:
    """Returns the entities that an entity's page links to; a country's lists are pages of their own."""
    return {world.target(entity, relation) for relation in world.relations(entity)} - {-1}


def reading(world: World, relations: Sequence[str], start: int) -> Reading:
    """Returns what a route leads to from one of its starts."""
    path = [start]
    for relation in relations[:-1]:
        path.append(world.target(path[-1], relation))
    value = number_in(world.fact(path[-1], relations[-1]))
    phrase = " of the ".join(_WORDED.get(relation, relation) for relation in reversed(relations))
    return Reading(tuple(path), tuple(relations), value, f"the {phrase} of {world.names[start]}")


def _walks(kind: str, pages: int) -> Iterator[tuple[str, ...]]:
    if pages == 1:
        yield from ((relation,) for relation in NUMBERS[kind])
        return
    for (origin, relation), target in LINKS.items():
        if origin == kind:
            yield from ((relation, *rest) for rest in _walks(target, pages - 1))


def _starts(world: World, split: str, kind: str, relations: Sequence[str], within: range | None) -> Ints:
    names, numbers = names_of(world), numbers_of(world)
    has_split = np.array([own == split for own in world.splits])
    allowed = has_split & (names.home[names.own] == SPLITS.index(split)) & ~names.ambiguous
    kinds = [kind]
    everyone: Ints = np.array(world.entities(kind), dtype=np.int64)
    path = [everyone[allowed[everyone]]]
    for relation in relations[:-1]:
        target = names.targets[kinds[-1], relation][path[-1] - world.entities(kinds[-1]).start]
        kinds.append(LINKS[kinds[-1], relation])
        fair = (target >= 0) & allowed[target]
        for earlier in path:
            fair &= target != earlier
        path = [entities[fair] for entities in (*path, target)]
    value = numbers[kinds[-1], relations[-1]][path[-1] - world.entities(kinds[-1]).start]
    fair = value >= _LEAST
    if within is not None:
        fair &= (value >= within.start) & (value < within.stop)
    for position, entities in enumerate(path[:-1]):
        place = entities - world.entities(kinds[position]).start
        for relation in NUMBERS[kinds[position]]:
            fair &= numbers[kinds[position], relation][place] != value
        for key in LINKS:
            if key[0] == kinds[position]:
                for later in path[position + 2 :]:  # a link that jumps ahead would make a page unnecessary
                    fair &= names.targets[key][place] != later
    starts: Ints = path[0][fair]
    return starts
