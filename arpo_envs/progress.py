"""Shows how far a long piece of work is."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def shown(items: Iterable[T], total: int, what: str, *, long: int) -> Iterable[T]:
    """Returns the items, which show on stderr how many of them have been taken, if there are many.

    Args:
        items: what is worked on, one after another.
        total: how many there are.
        what: what is done with them, such as "Indexing documents, once".
        long: from how many on it is shown.

    >>> list(shown("abc", 3, "Spelling", long=100))
    ['a', 'b', 'c']
    """
    return _tracked(items, total, what) if total >= long else items


def _tracked(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import track

    return iter(track(items, what, total=total, console=Console(stderr=True), transient=True))
