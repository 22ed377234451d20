"""Which questions a world allows: chains of relations, and the starts from which each is a fair question.

Everything is computed once, as arrays, so that drawing a question costs microseconds. A question is
fair when every entity on its path is in the split and has a unique name, when no name on the path
occurs in another split, and when every hop is needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..text import fold
from .corpus import KINDS, RELATIONS, World

LINKS: Mapping[tuple[str, str], str] = {
    ("city", "country"): "country",
    ("city", "nearest city"): "city",
    ("country", "capital"): "city",
    ("country", "largest other city"): "city",
    ("country", "northernmost city"): "city",
    ("country", "southernmost city"): "city",
    ("country", "most populous neighbour"): "country",
    ("element", "discovery country"): "country",
}
"""The relations that lead on, with the kind of entity they lead to."""

NEVER_ASKED = frozenset({"continent", "atomic number"})
"""Too few answers to be fair; and numbers that look like calling codes of other splits."""

ASKED = tuple(dict.fromkeys(r for relations in RELATIONS.values() for r in relations if r not in NEVER_ASKED))

_OF_ANY_CITY = frozenset({"population", "nearest city"})
"""Facts that differ for nearly every city: asked of any city, they would be most of the world's answers."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Chain:
    """One type of question: where it starts and which relations it follows."""

    kind: str
    relations: tuple[str, ...]

    @property
    def key(self) -> str:
        """The chain as written in a task's id."""
        return "/".join(relation.replace(" ", "_") for relation in self.relations)

    @property
    def wording(self) -> str:
        """The question up to the name of its start."""
        phrase = " of the ".join(reversed(self.relations))
        return f"What {'are' if self.relations[-1] == 'discoverers' else 'is'} the {phrase} of "


def chains(hops: int, relations: Sequence[str]) -> Iterator[Chain]:
    """Yields every chain of that length whose relations are distinct, in a stable order.

    >>> [chain.relations for chain in chains(2, ("country", "capital")) if chain.kind == "city"]
    [('country', 'capital')]
    """
    for kind in KINDS:
        for walk in _walks(kind, hops, frozenset(relations)):
            settled = kind != "city" or "country" in walk[:-1] or walk[-1] not in _OF_ANY_CITY
            if settled:
                yield Chain(kind, walk)


def _walks(kind: str, hops: int, relations: frozenset[str]) -> Iterator[tuple[str, ...]]:
    for relation in RELATIONS[kind]:
        if relation not in relations:
            continue
        if hops == 1:
            yield (relation,)
        elif (kind, relation) in LINKS:
            for rest in _walks(LINKS[kind, relation], hops - 1, relations - {relation}):
                yield (relation, *rest)


@dataclass(frozen=True)
class Names:
    """A world's texts as numbers.

    Args:
        texts: each distinct text once.
        own: the number of each entity's name.
        values: for each (kind, relation) the number of each entity's fact, -1 where unknown.
        targets: for each link the entity it leads to, -1 if it leads nowhere.
        ambiguous: for each entity whether another one has the same name, up to case and accents.
        home: for each text the one split it occurs in as a name or as an asked fact, -1 if in several or none.
    """

    texts: tuple[str, ...]
    own: Ints
    values: Mapping[tuple[str, str], Ints]
    targets: Mapping[tuple[str, str], Ints]
    ambiguous: NDArray[np.bool_]
    home: Ints


@lru_cache(maxsize=4)
def names_of(world: World) -> Names:
    """Numbers a world's texts and finds which of them are ambiguous or occur in several splits."""
    numbers: dict[str, int] = {}
    own = np.array([numbers.setdefault(name, len(numbers)) for name in world.names], dtype=np.int64)
    values, targets = {}, {}
    for key, column in world.columns.items():
        known = [numbers.setdefault(text, len(numbers)) if text else -1 for text in column.texts]
        values[key] = np.array(known, dtype=np.int64)
        if key in LINKS:
            targets[key] = np.array(column.targets, dtype=np.int64)
    texts = tuple(numbers)
    folded: dict[str, int] = {}
    same = np.array([folded.setdefault(fold(text) or text, len(folded)) for text in texts], dtype=np.int64)
    splits = np.array([{"train": 0, "validation": 1, "test": 2}.get(split, -1) for split in world.splits], dtype=np.int64)
    seen = np.zeros((len(folded), 3), dtype=bool)
    _mark(seen, same[own], splits)
    for (kind, relation), column_values in values.items():
        if relation in ASKED:
            there = column_values >= 0
            if (kind, relation) in LINKS:  # an entity's name counts where it lives, not wherever it is mentioned
                there &= targets[kind, relation] < 0
            entities = np.array(world.entities(kind))[there]
            _mark(seen, same[column_values[there]], splits[entities])
    single = np.where(seen.sum(axis=1) == 1, seen.argmax(axis=1), -1)
    ambiguous = np.bincount(same[own], minlength=len(folded))[same[own]] > 1
    return Names(texts, own, values, targets, ambiguous, single[same])


def _mark(seen: NDArray[np.bool_], texts: Ints, splits: Ints) -> None:
    there = splits >= 0
    seen[texts[there], splits[there]] = True


@dataclass(frozen=True)
class Questions:
    """All fair questions of one kind, sorted by answer, then chain, then start.

    Args:
        chains: the types of question that occur.
        answers: the distinct answers, as numbers of texts.
        groups_of: for answer i its groups are groups_of[i] to groups_of[i + 1]; a group shares answer and chain.
        chain_of: the chain of each group.
        starts_of: for group g its starts are starts[starts_of[g]] to starts[starts_of[g + 1]].
        starts: entities from which the questions start.
    """

    chains: tuple[Chain, ...]
    answers: tuple[int, ...]
    groups_of: tuple[int, ...]
    chain_of: tuple[int, ...]
    starts_of: tuple[int, ...]
    starts: Ints


@lru_cache(maxsize=16)
def questions_of(world: World, hops: int, split: int, relations: tuple[str, ...]) -> Questions:
    """Finds all fair questions of a split.

    Args:
        world: the world in use.
        hops: how many documents must be read.
        split: position in `SPLITS`.
        relations: the relations that may be used.
    """
    names = names_of(world)
    own_split = names.home[names.own] == split
    allowed = own_split & ~names.ambiguous & (np.array([bool(s) for s in world.splits]))
    used: list[Chain] = []
    blocks: list[Ints] = []
    for chain in chains(hops, relations):
        starts, answers = _fair(world, names, chain, allowed, split)
        if len(starts):
            blocks.append(np.stack([answers, np.full(len(starts), len(used)), starts]))
            used.append(chain)
    table = np.concatenate(blocks, axis=1) if blocks else np.zeros((3, 0), dtype=np.int64)
    answers, chain_ids, starts = table[:, np.lexsort(table[::-1])]
    new_answer = np.flatnonzero(np.diff(answers, prepend=-1))
    new_group = np.flatnonzero(np.diff(answers, prepend=-1) | np.diff(chain_ids, prepend=-1))
    groups_of = np.searchsorted(new_group, new_answer)
    return Questions(
        chains=tuple(used),
        answers=tuple(answers[new_answer].tolist()),
        groups_of=(*groups_of.tolist(), len(new_group)),
        chain_of=tuple(chain_ids[new_group].tolist()),
        starts_of=(*new_group.tolist(), len(starts)),
        starts=starts.astype(np.int32),
    )


def _fair(world: World, names: Names, chain: Chain, allowed: NDArray[np.bool_], split: int) -> tuple[Ints, Ints]:
    """Returns the starts from which a chain is a fair question, and the answers."""
    first = dict(zip(KINDS, world.bounds, strict=False))
    kinds = [chain.kind]
    everyone: Ints = np.array(world.entities(chain.kind), dtype=np.int64)
    path = [everyone[allowed[everyone]]]
    for relation in chain.relations[:-1]:
        target = names.targets[kinds[-1], relation][path[-1] - first[kinds[-1]]]
        kinds.append(LINKS[kinds[-1], relation])
        fair = (target >= 0) & allowed[target]
        for earlier in path:
            fair &= target != earlier
        path = [entities[fair] for entities in (*path, target)]
    last = (kinds[-1], chain.relations[-1])
    place = path[-1] - first[kinds[-1]]
    answer = names.values[last][place]
    fair = (answer >= 0) & (names.home[answer] == split)
    if last in LINKS:
        target = names.targets[last][place]
        fair &= (target < 0) | allowed[target]
    for i, kind in enumerate(kinds):
        own = names.own[path[i]]
        fair &= own != answer
        for relation in RELATIONS[kind]:
            values = names.values[kind, relation][path[i] - first[kind]]
            if i < len(kinds) - 1:  # an answer that an earlier document shows would make a hop unnecessary
                fair &= values != answer
            if relation != "country":  # and so would a later document that a search for an earlier name finds
                for earlier in path[:i]:
                    fair &= values != names.own[earlier]
    return path[0][fair], answer[fair]
