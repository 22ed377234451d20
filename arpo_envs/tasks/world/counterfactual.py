"""A world with permuted facts, so that nothing a model remembers helps it.

Facts move only within a split, and before anything is derived from them: whatever is stated in two
documents agrees, because both documents are written from the same permuted tables.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from .build import Raw, RawCity, RawCountry, RawElement

_SEED = 20507
"""Fixed, so that the counterfactual world is one world."""

_COUNTRY_FACTS = ("continent", "currency", "calling_code", "domain", "iso3", "area", "population")

T = TypeVar("T")


def permuted(raw: Raw, split_of: Callable[[str], str]) -> Raw:
    """Returns the counterfactual facts.

    City names change places, and with them their countries, capitals and what is near; time zones,
    borders and every column of country and element facts are permuted separately.

    Args:
        raw: the real facts of the world in use.
        split_of: the split of a country's code.
    """
    rng = np.random.default_rng(_SEED)
    cities = _cities(raw.cities, split_of, rng)
    renamed = {old.id: new.id for old, new in zip(raw.cities, cities, strict=True)}
    countries = tuple(
        replace(country, capital="") if country.capital_id is None else replace(country, capital_id=renamed[country.capital_id])
        for country in _countries(raw.countries, split_of, rng)
    )
    return Raw(cities, countries, _elements(raw, split_of, rng))


def deranged(labels: Sequence[Hashable], rng: np.random.Generator) -> list[int]:
    """Returns a random permutation p such that labels[p[i]] differs from labels[i], wherever that is possible.

    Args:
        labels: what must change; labels may repeat.
        rng: the only source of randomness.

    >>> labels = ["a", "a", "b", "c"]
    >>> [labels[j] for j in deranged(labels, np.random.default_rng(0))][:2].count("a")
    0
    """
    order: list[int] = rng.permutation(len(labels)).tolist()
    for _ in range(50):  # a random permutation leaves a few in place; swapping them away keeps it random
        stuck = [i for i, j in enumerate(order) if labels[i] == labels[j]]
        if not stuck:
            return order
        for i, k in zip(stuck, rng.integers(len(labels), size=len(stuck)).tolist(), strict=True):
            if labels[order[k]] != labels[i] and labels[order[i]] != labels[k]:
                order[i], order[k] = order[k], order[i]
    return _rotated(labels, order)


def _rotated(labels: Sequence[Hashable], order: Sequence[int]) -> list[int]:
    """Puts equal labels side by side and shifts everything by the largest group: works whenever anything does."""
    groups: dict[Hashable, list[int]] = {}
    for i in order:
        groups.setdefault(labels[i], []).append(i)
    ring = [i for group in groups.values() for i in group]
    shift = max(map(len, groups.values()))
    result = [0] * len(labels)
    for position, i in enumerate(ring):
        result[i] = ring[(position + shift) % len(ring)]
    return result


def _within(splits: Sequence[str], labels: Sequence[Hashable], rng: np.random.Generator) -> list[int]:
    """Returns a permutation that stays within splits and changes labels, as in `deranged`."""
    result = list(range(len(labels)))
    for split in sorted(set(splits)):
        inside = [i for i, other in enumerate(splits) if other == split]
        for i, j in zip(inside, deranged([labels[i] for i in inside], rng), strict=True):
            result[i] = inside[j]
    return result


def _cities(cities: Sequence[RawCity], split_of: Callable[[str], str], rng: np.random.Generator) -> tuple[RawCity, ...]:
    splits = [split_of(city.country) for city in cities]
    names = _within(splits, [city.country for city in cities], rng)
    zones = _zones(cities, splits, rng)
    return tuple(
        replace(city, id=cities[j].id, name=cities[j].name, time_zone=zones[splits[i], city.time_zone])
        for i, (city, j) in enumerate(zip(cities, names, strict=True))
    )


def _zones(cities: Sequence[RawCity], splits: Sequence[str], rng: np.random.Generator) -> Mapping[tuple[str, str], str]:
    """Renames the time zones of each split: cities that shared one still share one."""
    countries: dict[tuple[str, str], str] = {}
    for split, city in zip(splits, cities, strict=True):
        countries.setdefault((split, city.time_zone), city.country)
    keys = list(countries)
    order = _within([split for split, _ in keys], [countries[key] for key in keys], rng)
    return {key: keys[j][1] for key, j in zip(keys, order, strict=True)}


def _countries(
    countries: Sequence[RawCountry], split_of: Callable[[str], str], rng: np.random.Generator
) -> tuple[RawCountry, ...]:
    splits = [split_of(country.code) for country in countries]
    moved = list(countries)
    for field in _COUNTRY_FACTS:
        values = [getattr(country, field) for country in countries]
        for i, j in enumerate(_within(splits, values, rng)):
            moved[i] = replace(moved[i], **{field: values[j]})
    order = _within(splits, [country.code for country in countries], rng)
    code = {countries[j].code: countries[i].code for i, j in enumerate(order)}
    for i, j in enumerate(order):  # borders are those of the country whose place it takes: still symmetric
        neighbours = tuple(code[other] for other in countries[j].neighbours if other in code)
        moved[i] = replace(moved[i], neighbours=neighbours)
    return tuple(moved)


def _elements(raw: Raw, split_of: Callable[[str], str], rng: np.random.Generator) -> tuple[RawElement, ...]:
    elements = raw.elements
    splits = [split_of(element.country) if element.country else "" for element in elements]
    symbols = _within(splits, [element.symbol for element in elements], rng)
    numbers = _within(splits, [element.number for element in elements], rng)
    finds = _within(splits, [element.discoverers for element in elements], rng)
    members: dict[str, list[str]] = {}
    for country in raw.countries:
        members.setdefault(split_of(country.code), []).append(country.code)
    return tuple(
        replace(
            element,
            symbol=elements[symbols[i]].symbol,
            number=elements[numbers[i]].number,
            year=elements[finds[i]].year,
            discoverers=elements[finds[i]].discoverers,
            country=_other(members[splits[i]], element.country, rng) if element.country else "",
        )
        for i, element in enumerate(elements)
    )


def _other(codes: Sequence[str], own: str, rng: np.random.Generator) -> str:
    """Draws another country of the split: a few countries discovered nearly all elements, so a permutation would not do."""
    others = [code for code in codes if code != own]
    return others[int(rng.integers(len(others)))]
