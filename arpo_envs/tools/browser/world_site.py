"""The built-in world as a site: a page for every city, country and element, whose facts are links where they name others.

A page shows exactly the facts of the entity's document, so what makes a question about documents fair holds for pages, too. A
country's lists of cities and elements are pages of their own.
"""

from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

from ...tasks.world import World
from .sources import Document, Hit, PageError

if TYPE_CHECKING:
    from ..search import Index

BASE = "https://world.example/"
LISTS = {"cities": "city", "elements": "element"}
"""The lists that a country may have, and what is on them."""
_SHOWN = 200


class WorldSite:
    """A source of pages that needs no network; see `PageSource`.

    Args:
        world: what the pages are about.
        summaries: whether a result of a search shows the beginning of its document; otherwise it shows only the kind of entity,
            and whatever is asked for must be read on the page.

    >>> from arpo_envs.tasks.world import load_world
    >>> site = WorldSite(load_world(2))
    >>> site.url(site.world.number("country-FR"))
    'https://world.example/country-FR'
    """

    searches = True
    trusted = True

    def __init__(self, world: World, *, summaries: bool = True) -> None:
        self.world, self.summaries = world, summaries

    def __reduce__(self) -> tuple[object, tuple[World, bool]]:
        """Pickles by its arguments."""
        return _rebuilt, (self.world, self.summaries)

    @property
    def name(self) -> str:
        """What distinguishes it from other sources."""
        return f"site of {self.world.name}{'' if self.summaries else ', without summaries'}"

    def url(self, entity: int) -> str:
        """Returns where an entity's page is."""
        return BASE + self.world.ids[entity]

    def fetch(self, url: str, *, timeout: float) -> Document | PageError:
        """Returns the page of an entity, or of one of a country's lists."""
        path, _, wanted = url.removeprefix(BASE).partition("/") if url.startswith(BASE) else ("", "", "")
        entity = self._numbers.get(path)
        if entity is None or (wanted and (entity, wanted) not in self._lists):
            return PageError(f"there is no such page on {BASE}")
        return Document(url, self._list(entity, wanted) if wanted else self._facts(entity))

    def search(self, query: str, count: int, *, timeout: float) -> list[Hit] | PageError:
        """Returns what the tool `search` would find, as links."""
        found = self._index.numbers(query, count)
        return [Hit(self.url(number), self.world.names[number], self._summary(number)) for number in found]

    def _summary(self, entity: int) -> str:
        return self.world.document(entity).text[:_SHOWN] if self.summaries else self._kind(entity)

    def _kind(self, entity: int) -> str:
        kind = self.world.kind(entity)
        return "chemical element" if kind == "element" else kind

    @cached_property
    def _index(self) -> "Index":
        from ..search import SearchTool

        return SearchTool(self.world).index

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.world.ids)}

    @cached_property
    def _lists(self) -> dict[tuple[int, str], list[int]]:
        """What is on each country's lists: its cities, the largest first, and the elements that were discovered there."""
        world = self.world
        lists: dict[tuple[int, str], list[int]] = {}
        for city in sorted(world.entities("city"), key=lambda city: (-_number(world.fact(city, "population")), city)):
            lists.setdefault((world.target(city, "country"), "cities"), []).append(city)
        for element in world.entities("element"):
            lists.setdefault((world.target(element, "discovery country"), "elements"), []).append(element)
        return lists

    def _facts(self, entity: int) -> str:
        world = self.world
        name = escape(world.names[entity])
        rows = [
            f"<li>{relation}: {self._named(world.target(entity, relation), text)}</li>"
            for relation in world.relations(entity)
            if (text := world.fact(entity, relation))
        ]
        for wanted in LISTS:
            if (entity, wanted) in self._lists:
                rows.append(f"<li><a href='{self.url(entity)}/{wanted}'>list of {wanted}</a></li>")
        return f"<title>{name}</title><h1>{name}</h1><p>{self._kind(entity)}</p><ul>{''.join(rows)}</ul>"

    def _list(self, country: int, wanted: str) -> str:
        rows = [f"<li>{self._named(one, self.world.names[one])}</li>" for one in self._lists[country, wanted]]
        title = f"List of {wanted}: {escape(self.world.names[country])}"
        back = f"<p>Back to {self._named(country, self.world.names[country])}</p>"
        return f"<title>{title}</title><h1>{title}</h1>{back}<ul>{''.join(rows)}</ul>"

    def _named(self, entity: int, text: str) -> str:
        return f"<a href='{self.url(entity)}'>{escape(text)}</a>" if entity >= 0 else escape(text)


def _rebuilt(world: World, summaries: bool) -> WorldSite:
    return WorldSite(world, summaries=summaries)


def _number(text: str) -> int:
    return int(text.replace(",", "") or 0)
