"""Which answers are accepted besides the one in the documents."""

from collections.abc import Mapping
from functools import lru_cache

from ..text import without_accents

ALIASES: Mapping[str, tuple[str, ...]] = {
    "Brunei": ("Brunei Darussalam",),
    "Cabo Verde": ("Cape Verde",),
    "Czechia": ("Czech Republic",),
    "Democratic Republic of the Congo": ("DR Congo", "Congo-Kinshasa"),
    "Eswatini": ("Swaziland",),
    "Ivory Coast": ("Côte d'Ivoire",),
    "Myanmar": ("Burma",),
    "North Macedonia": ("Macedonia",),
    "Republic of the Congo": ("Congo-Brazzaville",),
    "The Netherlands": ("Netherlands",),
    "Timor Leste": ("East Timor",),
    "Turkey": ("Türkiye",),
    "United Arab Emirates": ("UAE",),
    "United Kingdom": ("UK", "Great Britain"),
    "United States": ("USA", "US", "United States of America"),
    "Vatican": ("Vatican City", "Holy See"),
    "Beijing": ("Peking",),
    "Kyiv": ("Kiev",),
    "New York City": ("New York",),
    "Nur-Sultan": ("Astana",),
    "Washington": ("Washington, D.C.", "Washington DC"),
    "Yangon": ("Rangoon",),
}
"""Other names in common use. The source's own lists are not used: for Luanda they also hold "ruanda"."""


@lru_cache(maxsize=1 << 15)
def accepted(relation: str, text: str, codes: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Returns all accepted answers, the documents' own first.

    Args:
        relation: what was asked for, such as "capital".
        text: the fact as the documents write it.
        codes: other codes that mean exactly the same, if the world in use says so.

    >>> accepted("internet domain", ".fr"), accepted("population", "260,958")
    (('.fr', 'fr'), ('260,958', '260958'))
    """
    found = [text, *ALIASES.get(text, ()), *codes]
    plain = text.replace(",", "")
    if relation == "internet domain":
        found.append(text.removeprefix("."))
    elif relation == "calling code":
        found.append(f"+{text}")
    elif relation == "population":
        found.append(plain)
    elif relation == "area":
        number = text.removesuffix(" square kilometres")
        found += [plain, number, number.replace(",", ""), f"{number} km²", f"{number.replace(',', '')} km²"]
    elif relation == "time zone":
        found.append(text.replace("_", " "))
    found += [without_accents(name) for name in found]
    return tuple(dict.fromkeys(found))
